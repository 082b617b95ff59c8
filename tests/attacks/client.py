"""The client's side of a case: sends exact bytes over a real socket and reads answers by the letter of RFC 9112."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.attacks.case import Act
from tests.attacks.recorder import drain, reset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.attacks.case import Steps

PAUSE_S = 0.02
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2}) [\t\x20-\x7e\x80-\xff]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")


class BadAnswer(AssertionError):
    """What came back is not HTTP."""


@dataclass(frozen=True)
class Answer:
    """`complete` False: the connection ended before the message did."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    raw: bytes
    complete: bool = True

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found.lower() == name.lower()]

    @property
    def closes(self) -> bool:
        tokens = b",".join(self.values(b"Connection")).lower().split(b",")
        return b"close" in {token.strip() for token in tokens} or self.raw.startswith(b"HTTP/1.0")


class Client:
    """One connection to the relay."""

    patience_s = 4.0

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=self.patience_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = bytearray()
        self.received = bytearray()
        self.ended = ""  # "fin" or "reset" once the relay closed
        self.closed_by_us = False
        self.is_old = False  # it has sent an HTTP/1.0 request: chunks must not come back

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, steps: Steps, *, split: bool = False, until_upstream: Callable[[], object] = lambda: None) -> None:
        """`split`: many small segments. A relay that closed early has an answer waiting: no error here."""
        for step in steps:
            try:
                match step:
                    case bytes():
                        for piece in pieces(step) if split else (step,):
                            self.socket.sendall(piece)
                    case Act.PAUSE:
                        time.sleep(PAUSE_S)
                    case Act.UNTIL_UPSTREAM:
                        until_upstream()
                    case Act.HALF_CLOSE:
                        self.socket.shutdown(socket.SHUT_WR)
                        self.closed_by_us = True
                    case Act.CLOSE:
                        self.closed_by_us = True
                        self.socket.shutdown(socket.SHUT_WR)
                        drain(self.socket)
                        self.socket.close()
                    case Act.RESET:
                        self.closed_by_us = True
                        reset(self.socket)
            except (ConnectionError, TimeoutError):
                return

    def receive(self, deadline_s: float | None = None) -> bool:
        """Waits for more bytes; False once the relay closed."""
        deadline_s = self.patience_s if deadline_s is None else deadline_s
        if not self.receive_some(deadline_s):
            raise AssertionError(f"nothing more within {deadline_s} s after {bytes(self.received[-200:])!r}")
        return not self.ended

    def receive_some(self, deadline_s: float) -> bool:
        """Waits for more bytes or the end; False if neither came in time."""
        if self.ended:
            return True
        self.socket.settimeout(deadline_s)
        try:
            data = self.socket.recv(262144)
        except ConnectionError:
            self.ended = "reset"
            return True
        except TimeoutError:
            return False
        if not data:
            self.ended = "fin"
        self.pending += data
        self.received += data
        return True

    def read_answer(self, method: str = "GET") -> Answer | None:
        """The next answer (1xx too), None if the connection ended before its first byte."""
        while (end := self.pending.find(b"\r\n\r\n")) < 0:
            if not self.receive():
                if not self.pending:
                    return None
                return Answer(0, (), b"", self._take(len(self.pending)), complete=False)
        head = self._take(end + 4)
        status, fields = parse_head(head)
        if method == "HEAD" or status in {204, 304} or status < 200:
            return Answer(status, fields, b"", head)
        lengths = [value for name, value in fields if name.lower() == b"content-length"]
        codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1 or codings not in ([], [b"chunked"]):
            raise BadAnswer(f"framing of {head!r}")
        if codings:
            if self.is_old:  # RFC 9112 6.1
                raise BadAnswer("chunks for HTTP/1.0")
            body, raw, complete = self._read_chunks()
        elif lengths:
            if not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
                raise BadAnswer(f"framing of {head!r}")
            body, complete = self._read(int(lengths[0]))
            raw = body
        else:
            while self.receive():
                pass
            body = raw = self._take(len(self.pending))
            complete = self.ended == "fin"
        return Answer(status, fields, body, head + raw, complete)

    def half_close(self) -> None:
        """Nothing more will be sent."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def read_to_end(self) -> bytes:
        """What is left until the relay closes."""
        while self.receive():
            pass
        return self._take(len(self.pending))

    def _take(self, count: int) -> bytes:
        data = bytes(self.pending[:count])
        del self.pending[:count]
        return data

    def _read(self, count: int) -> tuple[bytes, bool]:
        while len(self.pending) < count:
            if not self.receive():
                return self._take(len(self.pending)), False
        return self._take(count), True

    def _read_line(self) -> bytes | None:
        while (end := self.pending.find(b"\r\n")) < 0:
            if not self.receive():
                return None
        return self._take(end + 2)

    def _read_chunks(self) -> tuple[bytes, bytes, bool]:
        body, raw = bytearray(), bytearray()
        while (line := self._read_line()) is not None:
            raw += line
            found = re.fullmatch(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n", line)
            if not found:
                raise BadAnswer(f"chunk size {line!r}")
            size = int(found[1], 16)
            if not size:
                while (line := self._read_line()) is not None:
                    raw += line
                    if line == b"\r\n":
                        return bytes(body), bytes(raw), True
                break
            data, complete = self._read(size + 2)
            raw += data
            if complete and data[-2:] != b"\r\n":
                raise BadAnswer(f"after a chunk: {data[-2:]!r}")
            body += data[:size]
            if not complete:
                break
        raw += self._take(len(self.pending))
        return bytes(body), bytes(raw), False


def pieces(data: bytes, most: int = 600) -> Iterable[bytes]:
    """Single bytes, or for long data `most` pieces of about the same length."""
    step = max(1, -(-len(data) // most))
    return (data[at : at + step] for at in range(0, len(data), step))


def parse_head(head: bytes) -> tuple[int, tuple[tuple[bytes, bytes], ...]]:
    """Status and fields of a response head that ends with its empty line."""
    first, *lines = head[:-4].split(b"\r\n")
    found = _STATUS.fullmatch(first)
    if not found:
        raise BadAnswer(f"status line {first!r}")
    fields = []
    for line in lines:
        parts = _FIELD.fullmatch(line)
        if not parts or b"\n" in line or b"\r" in line or b"\0" in line:
            raise BadAnswer(f"field {line!r}")
        fields.append((parts[1], parts[2]))
    return int(found[1]), tuple(fields)
