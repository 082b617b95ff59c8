"""Serves the operations of the admin API: reads what was said, lets the desk work in a thread, writes what came of it.

The gate lets only the role `admin` come here. A refusal of the desk is a problem (RFC 9457) with the desk's own words.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web

from proxy.console import openapi
from proxy.console.asker import read_asker
from proxy.console.fields import read_body, read_limit
from proxy.console.operations import NAME, OPERATIONS, ROTATION, Call
from proxy.console.problems import answer_problem
from proxy.console.workers import Busy, Workers
from proxy.desk.auditing import record_end
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.ports import Asked, Conflict, StoreError
from proxy.tokens.secret import looks_minted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.console.asker import Asker
    from proxy.console.operations import Operation
    from proxy.desk.desk import Desk, Report
    from proxy.gate.guessers import Guessers

_log = logging.getLogger("promgate.console")

_STATUS = {Why.INVALID: 400, Why.UNKNOWN: 404, Why.CONFLICT: 409, Why.FAILED: 502}
_MOST, _USUAL = 500, 50


class Api:
    """`desk` makes the desk of the moment for who asks; None: there is no token store. `guessers` tells so many."""

    def __init__(self, desk: Callable[[Asked], Desk | None], guessers: Callable[[int], Guessers]) -> None:
        self._desk, self._guessers = desk, guessers
        self._workers = Workers()

    def add_to(self, router: web.UrlDispatcher, prefix: str) -> None:
        described = json.dumps(openapi.describe(prefix), indent=2) + "\n"

        async def describe(_: web.Request) -> web.Response:
            return web.Response(text=described, content_type="application/json")

        router.add_get(f"{prefix}/openapi.json", describe)
        for operation in OPERATIONS:
            path = operation.path.replace("{name}", f"{{name:{NAME}}}").replace("{rotation}", f"{{name:{ROTATION}}}")
            router.add_route(operation.method, prefix + path, self._serving(operation))

    def _serving(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            return await self._serve(operation, request)

        return serve

    async def _serve(self, operation: Operation, request: web.Request) -> web.Response:
        if operation.method == "POST" and request.content_type != "application/json":
            # A page of another site cannot send this without asking first, and is never told yes (docs/console.md).
            return answer_problem(415, "send JSON, and say so: Content-Type: application/json")
        try:
            call = await _read(operation, request)
        except ValueError as error:
            return answer_problem(400, str(error))
        if operation.look is not None:
            return _answer(operation, call, operation.look(self._guessers(call.limit)))
        asker = read_asker(request.headers)
        desk = self._desk(Asked(asker.identity, asker.way, asker.address, operation.id))
        if desk is None:
            return answer_problem(404, "there is no token store: tokens.store is not set")
        try:
            result = await self._workers.run(lambda: _run(operation, desk, call))
        except Busy:
            return answer_problem(503, "too much is under way; ask again in a moment")
        except Conflict as error:
            return answer_problem(409, str(error))
        except StoreError as error:
            return answer_problem(503, str(error))
        if operation.method == "POST":
            _tell(operation, asker, call.name, result)
        if isinstance(result, Refusal):
            return answer_problem(_STATUS[result.why], result.text)
        return _answer(operation, call, result)


def _run(operation: Operation, desk: Desk, call: Call) -> Report | Refusal:
    assert operation.run is not None
    result = operation.run(desk, call)
    if operation.method == "POST":
        record_end(desk, call.name, result)
    return result


async def _read(operation: Operation, request: web.Request) -> Call:
    said = read_body(await request.read(), operation.fields) if operation.method == "POST" else {}
    if operation.takes_limit:
        return Call(limit=read_limit(request.query, _MOST, _USUAL))
    if request.query:
        raise ValueError("there is nothing to be said in the query")
    key = request.headers.get("Idempotency-Key") if operation.takes_key else None
    name = request.match_info.get("name", "")
    if looks_minted(name.encode()):
        raise ValueError("that is a token, not a name; a URL stands in many a log, so revoke it as leaked")
    return Call(name, key and key.strip('"'), said)


def _answer(operation: Operation, call: Call, report: Report) -> web.Response:
    told: dict[str, Any] = dict(report.facts)
    if operation.method == "POST":
        told |= {"notes": list(report.notes), "failure": report.failure or None}
    if call.receiver.parcel is not None:
        told["secret"] = call.receiver.parcel.secret.reveal()
    return web.json_response(told, status=operation.status, dumps=lambda value: json.dumps(value, indent=2) + "\n")


def _tell(operation: Operation, asker: Asker, name: str, result: Report | Refusal) -> None:
    """One line for each change that was asked for. The access log has it too, but not what came of it."""
    if isinstance(result, Refusal):
        _log.warning("%s by %s from %s (%s): %s", operation.id, asker.identity, asker.address, name or "-", result.text)
        return
    for line in (*result.notes, *([f"but {result.failure}"] if result.failure else [])):
        _log.info("%s by %s from %s: %s", operation.id, asker.identity, asker.address, line)
