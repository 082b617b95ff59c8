"""What went wrong, for programs: RFC 9457's application/problem+json. `detail` says what to do."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM = "application/problem+json"


def answer_problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, **more: object
) -> web.Response:
    """`more` are further members. Of a status that may pass by itself a client is told when to come again."""
    fields = dict(headers or {})
    if status == 503:
        fields.setdefault("Retry-After", "5")
    told = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return web.Response(status=status, text=json.dumps(told) + "\n", content_type=PROBLEM, headers=fields)
