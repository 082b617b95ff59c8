"""Renew, the sender's side: show the token that lies in a file, be given its successor, put it in the file, show that.

    read the file -> POST .../-/api/v1/renew -> 200 and a token: replace the file, ask again with it -> 204

Each step may be the last and the whole may be done again: until the successor was shown the old token goes on, and
who comes with the old one again is given another. The file is never empty and never half (`delivery.file`). The
standard library is enough, so that it runs wherever a sender does.
"""

from __future__ import annotations

import enum
import json
import random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from proxy.delivery.ask import Answer, NoAnswer, Request, ask
from proxy.delivery.credential import bearer
from proxy.delivery.file import advice_on, replace_file
from proxy.delivery.scrub import first_line
from proxy.tokens.secret import Secret, parse

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

PATH: Final = "/-/api/v1/renew"
AGENT: Final = "promgate-renew"
_DEADLINE_S: Final = 60.0
_MAX_FILE: Final = 64 * 1024
#: Answers that a later try may change; all others are for the operator.
_LATER: Final = {408, 425, 429, 500, 502, 503, 504}
#: The longest pause after trouble; a rotation waits for days.
_MAX_PAUSE_S: Final = 300.0
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


class Renewal(enum.Enum):
    """How a look ended."""

    NOTHING = "nothing to do"
    DONE = "the file holds the successor, and it is current"
    PLACED = "the file holds the successor, and promgate has not been told yet"


class RenewError(Exception):
    """It did not work, and the file is as it was. `is_final`: trying again alone changes nothing."""

    def __init__(self, text: str, *, is_final: bool, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.is_final = is_final
        self.retry_after_s = retry_after_s


class Renewer:
    """Trades the token in `file` at the promgate of `url`, whose certificate is judged by `ca_file` or the system's.

    `pair`: the files of a certificate of our own and of its key, to be known by; none, if they are empty.
    """

    def __init__(
        self,
        url: str,
        file: Path,
        ca_file: str = "",
        *,
        pair: tuple[str, str] = ("", ""),
        agent: str = AGENT,
        send: Callable[[Request, float], Answer] = ask,
    ) -> None:
        where = urlsplit(url)
        if where.scheme not in {"https", "http"} or not where.hostname or {"?", "#", "@"} & set(url):
            raise RenewError(f"{url[:80]!r} is not a URL: write https://host:port", is_final=True)
        if where.scheme == "http" and where.hostname not in _LOOPBACK:
            raise RenewError("the token would cross the network in clear: write https://", is_final=True)
        self._url = url.rstrip("/") + PATH
        self._file = file.absolute()
        self._ca_file = ca_file
        self._pair = pair
        self._agent = agent
        self._send = send

    def look(self) -> Renewal:
        """Ask once, and put the successor in place if there is one. Raises RenewError."""
        held = self._read()
        fresh = self._ask(held)
        if fresh is None:
            return Renewal.NOTHING
        try:
            replace_file(self._file, fresh.reveal().encode() + b"\n")
        except OSError as error:
            raise RenewError(f"{self._file}: {advice_on(error)}", is_final=False) from error
        try:
            self._ask(fresh)
        except RenewError:
            return Renewal.PLACED  # the next look shows it again, and so does whoever sends with it
        return Renewal.DONE

    def _read(self) -> Secret:
        try:
            with self._file.open("rb") as opened:
                held = opened.read(_MAX_FILE).strip()
        except OSError as error:
            raise RenewError(f"{self._file} cannot be read: {error.strerror}", is_final=False) from error
        if parse(held) is None:
            raise RenewError(f"{self._file} holds no token of promgate's", is_final=True)
        return Secret(held.decode())

    def _ask(self, held: Secret) -> Secret | None:
        """The successor of `held`; None if there is none to be had, or if `held` is it."""
        headers = {"Authorization": bearer(held), "User-Agent": self._agent, "Accept": "application/json"}
        try:
            answer = self._send(Request("POST", self._url, headers, b"", self._ca_file, "", *self._pair), _DEADLINE_S)
        except NoAnswer as error:
            raise RenewError(str(error), is_final=False) from error
        if answer.status == 204:
            return None
        if answer.status == 200:
            return _successor(answer, held)
        said = first_line(answer.body, held)
        after = answer.headers.get("retry-after", "")
        raise RenewError(
            f"{self._url} answered {answer.status}: {said}",
            is_final=answer.status not in _LATER,
            retry_after_s=float(after) if after.isdecimal() and len(after) < 6 else 0.0,
        )


def _successor(answer: Answer, held: Secret) -> Secret:
    """What was given, if it is a whole token of the same kind: whatever else must not get into the file."""
    try:
        told: Any = json.loads(answer.body)
        given = told["token"]
    except (ValueError, TypeError, KeyError):
        given = None
    mine = parse(held.reveal().encode())
    marks = parse(given.encode()) if isinstance(given, str) else None
    if marks is None or mine is None or marks.kind is not mine.kind:
        raise RenewError("promgate answered 200 with something else than a successor", is_final=True)
    return Secret(given)


def watch(renewer: Renewer, interval_s: float, ended: threading.Event, say: Callable[[str], None]) -> None:
    """Look again and again until `ended` is set, which ends it between two looks and never in the middle of one.

    Pauses have jitter, so that not all senders come at once, and grow while there is trouble, which is said once.
    """
    said, failures = "", 0
    while not ended.is_set():
        pause_s = interval_s
        try:
            found = renewer.look()
        except RenewError as error:
            growing_s = min(interval_s * 2.0 ** min(failures, 16), max(_MAX_PAUSE_S, interval_s))
            pause_s = max(error.retry_after_s, growing_s)
            failures += 1
            if str(error) != said:
                said = str(error)
                say(said)
        else:
            if failures:
                say("it works again")
            if found is not Renewal.NOTHING:
                say(found.value)
            said, failures = "", 0
        ended.wait(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter is no secret
