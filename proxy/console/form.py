"""A form that somebody sent: in UTF-8, as browsers do (URL Standard 5.2), whatever charset its sender names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from aiohttp import web

_MOST_FIELDS = 16
_UTF8 = frozenset({None, "utf-8"})


async def read_form(request: web.Request) -> dict[str, str] | None:
    """The values by name, the first of each; None for what is not that, a lone surrogate included.

    The caller has seen to the content type, and the application to the size.
    """
    charset = request.charset
    if (charset and charset.lower()) not in _UTF8:
        return None
    try:
        text = (await request.read()).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None
    return dict(reversed(pairs))
