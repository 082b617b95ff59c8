"""`promgate explain --request-id`: what the access log has of a request, and the same gate's word on it once more.

What the server wrote down is told as recorded. What it did not write (the rule, the limit, the state of the token) is
judged anew, as of that time, by the configuration and the facts of the tokens as they are now; and where what was
shown was written nowhere, that is said and nothing is judged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.cli.case import Case, Unable, explain_case, stand_in
from proxy.gate.credentials import ShownToken
from proxy.gate.decision import Reason
from proxy.gate.edits import IDENTITY_FIELDS
from proxy.tokens.book import TokenBook
from proxy.tokens.configured import is_configured
from proxy.tokens.ports import Changes
from proxy.wire.head import RequestMemo, admit_request
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from proxy.config.read import Loaded
    from proxy.gate.credentials import Shown
    from proxy.gate.memory import Memory
    from proxy.observe.recorded import Recorded
    from proxy.wire.head import RequestHead

#: Said before anybody's credential was looked at.
_BEFORE_CREDENTIALS = frozenset(
    {
        Reason.NO_ROUTE, Reason.BLOCKED, Reason.METHOD_UNKNOWN, Reason.METHOD_NOT_TAKEN, Reason.ADDRESS_NOT_ALLOWED,
        Reason.NO_CREDENTIAL, Reason.LOGIN_NEEDED, Reason.HEALTH, Reason.OPTIONS,
    }
)  # fmt: skip
#: What a server knows while it runs, and a log does not.
_PASSING = frozenset(
    {
        Reason.TOO_MANY_GUESSES, Reason.OVER_RATE, Reason.TOO_MANY_AT_ONCE, Reason.BUSY, Reason.DRAINING,
        Reason.STORE_UNREADABLE, Reason.PROVIDER_UNREACHABLE, Reason.KEY_LATE, Reason.BODY_TOO_LARGE,
    }
)  # fmt: skip
#: One decision by two names: what made the difference is not recorded.
_SAME = {Reason.GRANTED: Reason.OK, Reason.LOGIN_NEEDED: Reason.NO_CREDENTIAL}


def explain_recorded(line: Recorded, loaded: Loaded, memory: Memory) -> dict[str, object]:
    """`recorded`, `judged` (None where nothing can be judged), and a `note` on how the two go together."""
    told: dict[str, object] = {"recorded": _told(line)}
    _go_back(memory, line.at)
    try:
        case = _case(line, loaded, memory)
    except Unable as error:
        return told | {"judged": None, "note": f"not judged anew: {error}"}
    judged = explain_case(case, loaded, memory, line.at)
    return told | {"judged": judged, "note": _note(line, str(judged["reason"]))}


def _go_back(memory: Memory, at: float) -> None:
    """Take back the revocations that came later; the other facts of a token have their own times."""
    book, memory.book = memory.book, TokenBook()
    then = tuple(
        replace(one, revoked_at=None, held_until=None) if one.revoked_at is not None and one.revoked_at > at else one
        for one in book.tokens.values()
        if not is_configured(one.id)
    )
    memory.book.has_store = book.has_store
    memory.book.apply(Changes(book.generation, then, book.made_at))
    memory.book.configure((one for one in book.tokens.values() if is_configured(one.id)), at, 0.0)


def _told(line: Recorded) -> dict[str, object]:
    told: dict[str, object] = {
        "time": line.written,
        "request": f"{line.method} {line.path}".strip() or "none that was lawful",
        "client": line.client,
        "agent": line.agent,
        "route": line.route,
        "identity": line.identity,
        "token": line.token,
        "reason": line.reason,
        "status": line.status,
        "duration": f"{line.duration_s:.6f} s",
    }
    return {word: value for word, value in told.items() if value != ""}


def _case(line: Recorded, loaded: Loaded, memory: Memory) -> Case:
    if line.reason == Reason.UNLAWFUL or not line.path:
        raise Unable("it was no lawful request, or none that was read whole")
    return Case(_head(line, loaded), _shown(line, memory), line.client, granted=True)


def _head(line: Recorded, loaded: Loaded) -> RequestHead:
    """The request as far as it was written: no query, which takes part in nothing; for Host, one that its route has."""
    if line.reason == Reason.WRONG_HOST:
        raise Unable("the host that it named is not recorded: explain the whole URL")
    routes = loaded.snapshot.routes
    mine = [route for route in routes if route.name == line.route] or routes
    host = b"localhost" if any(not route.hosts for route in mine) else min(mine[0].hosts)
    raw = f"{line.method} {line.path} HTTP/1.1\r\nHost: {host.decode()}\r\n\r\n".encode("latin-1", "replace")
    try:
        return admit_request(raw, len(raw) - 4, RequestMemo(IDENTITY_FIELDS))
    except Unlawful as error:
        raise Unable(f"its line holds no lawful request: {error}") from None


def _shown(line: Recorded, memory: Memory) -> Shown | None:
    """What stands for the credential that was shown; it was not written down, but whose it was."""
    if line.token:
        token = next((token for token in memory.book.tokens.values() if token.id == line.token), None)
        if token is None:
            where = "the configuration does not list" if is_configured(line.token) else "the store does not hold"
            raise Unable(f"{where} the token {line.token} any more")
        return ShownToken(token.digest, minted=True)
    if line.identity in {"", "anyone"}:
        if line.identity or line.reason in _BEFORE_CREDENTIALS:
            return None
        raise Unable("what was shown is written nowhere: explain the URL, and show the credential")
    shown = stand_in(line.identity, memory.book.tokens.values(), line.at)
    if shown is None:
        raise Unable(f"the roles of {line.identity} come from what its provider said, which is written nowhere")
    return shown


def _note(line: Recorded, judged: str) -> str:
    recorded = _SAME.get(Reason(line.reason), line.reason) if line.reason in set(Reason) else line.reason
    if recorded == judged:
        return "both agree"
    if line.reason in _PASSING:
        return f"{line.reason} came from what only the running server knew then; but for that it is {judged}"
    if judged == Reason.OK and line.reason in set(Reason) - _BEFORE_CREDENTIALS:
        return f"it is let in by the gate; {line.reason} came after it, or the configuration or its tokens have changed"
    return f"it was {line.reason} then and is {judged} now: the configuration, or the facts of its token, have changed"
