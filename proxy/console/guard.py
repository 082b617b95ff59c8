"""Around every request: no page of another site may act here, and no failure tells more than it should.

What changes something must not say that another's page asks (`gate.origin`). The gate has judged that of whoever showed
a password, a certificate or a session; here it holds for who shows nothing as well, at the login page. The API has
beside that a content type for which a browser asks first (Fetch standard, "CORS-safelisted request-header"), which is
never answered with yes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.console.problems import answer_problem
from proxy.gate.origin import says_foreign

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.typedefs import Handler, Middleware

_log = logging.getLogger("promgate.console")

_READING = frozenset({"GET", "HEAD"})


def make_guard(external_url: Callable[[], str]) -> Middleware:
    """`external_url` is asked at each request."""

    @web.middleware
    async def judge(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in _READING and _is_foreign(request, external_url()):
            return answer_problem(403, "a page of another site sent this")
        return await _answer(request, handler)

    return judge


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
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


def _is_foreign(request: web.Request, external_url: str) -> bool:
    sites, origins = (
        [value.encode(errors="surrogateescape") for value in request.headers.getall(name, ())]
        for name in ("Sec-Fetch-Site", "Origin")
    )
    return says_foreign(sites, origins, request.host.encode(errors="surrogateescape"), external_url)
