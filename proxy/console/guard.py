"""Around every request: no page of another site may act here, and no failure tells more than it should.

A browser sends a password or a certificate along with whatever a foreign page makes it ask. So what changes something
must come from our own page or from a program, by Sec-Fetch-Site and by Origin; and for the API by a content type for
which a browser asks first (Fetch standard, "CORS-safelisted request-header"), which is never answered with yes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.console.problems import answer_problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger("promgate.console")

_READING = frozenset({"GET", "HEAD"})
_OWN = frozenset({"same-origin", "none"})


@web.middleware
async def judge(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.method not in _READING and _is_foreign(request):
        return answer_problem(403, "a page of another site sent this")
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return answer_problem(405, f"this takes {allowed}", {"Allow": allowed})
    except web.HTTPException as error:
        return answer_problem(error.status, "there is no such thing here" if error.status == 404 else error.reason)
    except Exception:  # noqa: BLE001 - a defect must not show its inside
        _log.exception("%s %s failed", request.method, request.path)
        return answer_problem(500, "promgate failed at this; its log says how")


def _is_foreign(request: web.Request) -> bool:
    """Programs send neither field."""
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN:
        return True
    origin = request.headers.get("Origin")
    own = f"{request.headers.get('X-Forwarded-Proto', '')}://{request.host}"
    return origin is not None and origin.lower() != own.lower()
