"""The proof that a token works, by the whole way that its sender will use: one sample is pushed, and queried back.

    connect, tls -> route -> auth -> push -> query

The push goes to the public listener, with the new token; the query comes through the reading route, as a reader. The
series is `promgate_canary{name, token}` (the token's public id) with a value that nobody else has; the proof is that
exactly this value is there. A reader token pushes nothing: it asks for `vector(VALUE)` itself, where its roles let it
query.

Who says "not now" (5xx, 429, or no connection) is asked again until the deadline; who says "never" ends it at once.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from proxy.delivery import remote_write
from proxy.delivery.ask import Answer, NoAnswer, Request, ask
from proxy.delivery.credential import basic, bearer
from proxy.delivery.scrub import first_line
from proxy.tokens.ports import CanaryError
from proxy.tokens.secret import Secret, parse
from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.tokens.targets import CanaryRules

_log = logging.getLogger("promgate.rotation")

METRIC: Final = "promgate_canary"
_AGENT: Final = "promgate-canary"
_NOT_NOW: Final = {429, 500, 502, 503, 504}
#: Between two tries, where the other side names no time.
_PAUSE_S: Final = 0.25
_MAX_CREDENTIAL: Final = 64 * 1024
#: Every whole number below is exact in a float, and is written by Prometheus without an exponent.
_VALUE_BITS: Final = 50


class Canary:
    """Proves tokens as `rules` say. Times and chance are arguments for the tests' sake."""

    def __init__(
        self,
        rules: CanaryRules,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._pause = pause

    def prove(self, name: str, kind: TokenKind, secret: Secret) -> None:
        deadline = time.monotonic() + self._rules.timeout_s
        value = secrets.randbits(_VALUE_BITS)
        at_s = round(self._clock(), 3)
        if kind is TokenKind.READER:
            if name in self._rules.readers:
                self._query(f"vector({value})", at_s, bearer(secret), deadline, value, step="auth")
            else:
                _log.warning("token of %s is not proven: a reader without a role on the canary's reading route", name)
            return
        marks = parse(secret.reveal().encode())
        labels = {"__name__": METRIC, "name": name, "token": marks.id if marks is not None else ""}
        self._push(remote_write.encode(labels, value, round(at_s * 1000)), secret, deadline)
        series = f'{METRIC}{{name="{name}",token="{labels["token"]}"}}'
        self._query(series, at_s, self._reader(), deadline, value, step="query")

    def _push(self, body: bytes, secret: Secret, deadline: float) -> None:
        rules = self._rules
        headers = {**remote_write.HEADERS, "User-Agent": _AGENT, "Authorization": bearer(secret)}
        request = Request("POST", rules.push_url, headers, body, rules.ca_file, rules.server_name)
        answer = self._ask(request, "push", deadline)
        said = first_line(answer.body, secret)
        match answer.status:
            case 200 | 204:
                return
            case 401:
                raise CanaryError("auth", f"{rules.push_url} does not take the new token (401): {said}")
            case 403 | 404 | 405 | 421:
                text = f"no route of {rules.push_url} takes a push with this token ({answer.status}): {said}"
                raise CanaryError("route", text)
            case status if 300 <= status < 400:
                raise CanaryError("route", f"{rules.push_url} redirects ({status}); write the place itself")
            case status:
                raise CanaryError("push", f"{rules.push_url} answered {status}: {said}")

    def _query(
        self, expression: str, at_s: float, authorization: str, deadline: float, value: int, *, step: str
    ) -> None:
        """Wait for the value. A receiver in several parts may need a moment until it has what it took."""
        rules = self._rules
        url = f"{rules.query_url}?query={quote(expression)}&time={at_s:.3f}"
        headers = {"User-Agent": _AGENT, "Accept": "application/json"}
        if authorization:
            headers["Authorization"] = authorization
        request = Request("GET", url, headers, b"", rules.ca_file, rules.server_name)
        while True:
            answer = self._ask(request, step, deadline)
            if answer.status != 200:
                hint = "; may the canary's reader query there?" if answer.status in {401, 403} else ""
                said = first_line(answer.body, Secret(authorization.partition(" ")[2]))
                raise CanaryError(step, f"{rules.query_url} answered {answer.status}: {said}{hint}")
            values = _values(answer, rules.query_url)
            if value in values:
                return
            if time.monotonic() + _PAUSE_S >= deadline:
                what = f"{len(values)} other values" if values else "nothing"
                text = f"{rules.query_url} has {what} for the sample that was pushed: is it the same server?"
                raise CanaryError("query", text)
            self._pause(_PAUSE_S)

    def _ask(self, request: Request, step: str, deadline: float) -> Answer:
        """The answer, once it is not "not now" any more, or the last one in time.

        What breaks on the way to the query back is the query's fault: TLS has been proven by then.
        """
        while True:
            answer: Answer | None = None
            failure = CanaryError(step, "no time was left")
            try:
                answer = ask(request, max(deadline - time.monotonic(), 0.1))
            except NoAnswer as error:
                failure = CanaryError(step if step == "query" or error.step == "answer" else error.step, str(error))
                if error.step == "tls":
                    raise failure from error
            if answer is not None and answer.status not in _NOT_NOW:
                return answer
            wait_s = _PAUSE_S if answer is None else _retry_after(answer)
            if time.monotonic() + wait_s >= deadline:
                if answer is None:
                    raise failure
                return answer
            self._pause(wait_s)

    def _reader(self) -> str:
        """What the reader shows, read anew: it may have been rotated, too."""
        rules = self._rules
        try:
            if rules.credentials_file:
                return bearer(_secret_in(rules.credentials_file))
            if rules.username:
                return basic(rules.username, _secret_in(rules.password_file))
        except OSError as error:
            raise CanaryError("query", f"{error.filename} cannot be read: {error.strerror}") from error
        return ""


def _secret_in(file: str) -> Secret:
    with Path(file).open("rb") as opened:
        return Secret(opened.read(_MAX_CREDENTIAL).decode(errors="replace").strip())


def _retry_after(answer: Answer) -> float:
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() and len(said) < 6 else _PAUSE_S


def _values(answer: Answer, url: str) -> list[float]:
    """Those of an instant vector (https://prometheus.io/docs/prometheus/latest/querying/api/, "Instant queries")."""
    try:
        told: Any = json.loads(answer.body)
        return [float(series["value"][1]) for series in told["data"]["result"]]
    except (ValueError, TypeError, KeyError, IndexError):
        raise CanaryError("query", f"{url} answered 200 with something else than the result of a query") from None
