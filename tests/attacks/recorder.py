"""An upstream that keeps the exact bytes of every connection, answers as it is told, and notes how each one ended.

Its reading of a request is strict on purpose: what the relay writes must be plain, whatever the client wrote.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.attacks.case import Act

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.attacks.case import Steps

DEFAULT_BODY = b"ok\n"
# A name with `_` is no token here: CGI would read it as one with `-`.
_LINE = rb"[!#$%&'*+.^`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n"
_HEAD = re.compile(rb"[A-Z-]+ /[\x21-\x7e]* HTTP/1\.[01]\r\n(?:%b)*\r\n" % _LINE)
_FRAMING = re.compile(rb"^(content-length|transfer-encoding):[ \t]*(.*?)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_SIZE = re.compile(rb"(?:0|[1-9a-fA-F][0-9a-fA-F]{0,7})")


class Malformed(ValueError):
    """The relay wrote something that no proxy should write."""


def message_end(data: bytes) -> tuple[int, int]:
    """(where the head ends, where the message ends); -1 for what is not there yet."""
    at = data.find(b"\r\n\r\n")
    if at < 0:
        return -1, -1
    at += 4
    if not _HEAD.fullmatch(data, 0, at):
        raise Malformed(f"head {data[:at]!r}")
    framing = _FRAMING.findall(data[:at].replace(b"\r\n", b"\n"))
    if len(framing) > 1:
        raise Malformed(f"framed twice: {framing!r}")
    if not framing:
        return at, at
    name, value = framing[0]
    if name.lower() == b"transfer-encoding":
        if value != b"chunked":
            raise Malformed(f"Transfer-Encoding {value!r}")
        return at, chunks_end(data, at)
    if not re.fullmatch(rb"0|[1-9][0-9]{0,17}", value):
        raise Malformed(f"Content-Length {value!r}")
    end = at + int(value)
    return at, end if end <= len(data) else -1


def chunks_end(data: bytes, at: int) -> int:
    """Where the chunked body that begins at `at` ends, -1 if it goes on."""
    while True:
        line = data.find(b"\r\n", at)
        size = data[at : line if line >= 0 else len(data)]
        if line < 0:
            if len(size.rstrip(b"\r")) > 8:
                raise Malformed(f"chunk size {size!r}")
            return -1
        if not _SIZE.fullmatch(size):
            raise Malformed(f"chunk size {size!r}")
        end = line + 2 + int(size, 16)
        closing = data[end : end + 2]
        if not b"\r\n".startswith(closing):
            raise Malformed(f"after a chunk: {closing!r}")
        if len(closing) < 2:
            return -1
        at = end + 2
        if size == b"0":
            return at


@dataclass
class Connection:
    """One connection of the relay. `end` is "" while it is open, then "fin" or "reset"."""

    number: int
    data: bytearray = field(default_factory=bytearray)
    done: int = 0  # data before this belongs to whole requests
    mark: int = 0  # data before this belongs to an earlier case
    answered_head: bool = False
    malformed: str = ""
    end: str = ""
    closed_by_us: bool = False


@dataclass(frozen=True)
class Request:
    raw: bytes
    connection: Connection

    @property
    def target(self) -> bytes:
        return self.raw.split(b" ", 2)[1]

    @property
    def is_probe(self) -> bool:
        return self.target.startswith(b"/probe/")


class Recorder:
    """A server in threads, on a loopback port or on the unix socket `path`; with `certs` of a directory it speaks TLS.

    `upstream` is how a route leads to it. `begin` opens a case, and all questions are about what came since.
    """

    patience_s = 5.0

    def __init__(self, path: Path | None = None, certs: Path | None = None) -> None:
        self._tls = None if certs is None else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            self.address: tuple[str, int] = self._listener.getsockname()
            self.url = f"http://127.0.0.1:{self.address[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen(128)
            self.url = f"unix://{path}"
        self.upstream: str | dict[str, Any] = self.url
        if self._tls is not None:
            self._tls.load_cert_chain(f"{certs}/localhost.crt", f"{certs}/localhost.key")
            self.url = self.url.replace("http:", "https:")
            self.upstream = {"url": self.url, "tls_config": {"ca_file": f"{certs}/ca.crt"}}
        self._changed = threading.Condition()
        self._connections: list[Connection] = []
        self._requests: list[Request] = []
        self._answers: list[Steps] = []
        self._at_head = False
        self._peers: set[socket.socket] = set()
        self._reading: set[socket.socket] = set()  # plain ones whose thread waits for bytes
        self._let_go = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._let_go.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    # What a test asks for

    def begin(self, answers: tuple[Steps, ...] = (), *, at_head: bool = False) -> None:
        with self._changed:
            # What the relay sent in an earlier case may not have been read yet, and would be taken for this one's.
            if not self._changed.wait_for(self._has_read_all, self.patience_s):
                raise TimeoutError("bytes of an earlier case are left unread")
            self._let_go = threading.Event()
            self._answers, self._at_head, self._requests = list(answers), at_head, []
            self._connections = [c for c in self._connections if not c.end]
            for connection in self._connections:
                connection.mark = len(connection.data)

    def _has_read_all(self) -> bool:
        """Whether no byte and no connection has arrived that its thread has still to take. Under the lock."""
        waited_for = [one for one in (self._listener, *self._reading) if one.fileno() >= 0]
        return not any(is_readable(one, 0) for one in waited_for)

    def let_go(self) -> None:
        """Ends every `{hold}`."""
        self._let_go.set()

    def hang_up(self) -> None:
        """Closes every connection, and waits until the relay has noticed."""
        with self._changed:
            peers, connections = list(self._peers), list(self._connections)
        for peer in peers:
            with contextlib.suppress(OSError):
                end_writing(peer)
        if not self.wait_for(lambda: all(c.end for c in connections)):
            raise TimeoutError("the relay keeps connections that the upstream has closed")

    def requests(self) -> list[Request]:
        """Whole requests, in the order of their ends, without the runner's own probes."""
        with self._changed:
            return [request for request in self._requests if not request.is_probe]

    def unfinished(self) -> bytes:
        """Bytes that reached the upstream and belong to no whole request."""
        with self._changed:
            return b"".join(bytes(c.data[max(c.done, c.mark) :]) for c in self._connections)

    def malformed(self) -> list[str]:
        with self._changed:
            return [c.malformed for c in self._connections if c.malformed]

    def touched(self) -> list[Connection]:
        """Connections that carried bytes of this case (a probe alone does not count)."""
        with self._changed:
            used = {r.connection.number for r in self._requests if not r.is_probe}
            return [c for c in self._connections if c.number in used or len(c.data) > max(c.done, c.mark)]

    def wait_for(self, what: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """True once `what()` holds; looks again after each change."""
        timeout_s = self.patience_s if timeout_s is None else timeout_s
        with self._changed:
            return self._changed.wait_for(what, timeout_s)

    def holds_head(self) -> bool:
        with self._changed:
            return bool(self.requests()) or b"\r\n\r\n" in self.unfinished()

    # The server

    def _accept(self) -> None:
        while True:
            try:
                is_readable(self._listener, None)
                with self._changed:
                    peer, _ = self._listener.accept()
                    connection = Connection(len(self._connections) and self._connections[-1].number + 1)
                    self._connections.append(connection)
                    self._peers.add(peer)
                    if self._tls is None:
                        self._reading.add(peer)
                    self._changed.notify_all()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer, connection), daemon=True).start()

    def _serve(self, peer: socket.socket, connection: Connection) -> None:
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = "fin"
        try:
            if self._tls is not None:
                plain, peer = peer, self._tls.wrap_socket(peer, server_side=True)
                with self._changed:
                    self._peers ^= {plain, peer}
            while self._receive(peer, connection):
                while (steps := self._next_answer(connection)) is not None:
                    self._write(peer, steps, connection)
        except ConnectionError:
            end = "reset"
        except OSError:
            pass  # closed by a step of ours
        peer.close()
        with self._changed:
            self._peers.discard(peer)
            self._reading.discard(peer)
            connection.end = end
            self._changed.notify_all()

    def _receive(self, peer: socket.socket, connection: Connection) -> bool:
        """Take what has arrived; False at the end. Plain bytes are noted in the same breath in which they are read."""
        if self._tls is not None:
            data = peer.recv(65536)
        else:
            with self._changed:
                self._reading.add(peer)
            is_readable(peer, None)
        with self._changed:
            if self._tls is None:
                data = peer.recv(65536)
                self._reading.discard(peer)
            connection.data += data
            self._changed.notify_all()
        return bool(data)

    def _next_answer(self, connection: Connection) -> Steps | None:
        """What to write now, if the bytes so far call for an answer."""
        with self._changed:
            rest = bytes(connection.data[connection.done :])
            if not rest or connection.malformed:
                return None
            try:
                head, end = message_end(rest)
            except Malformed as fault:
                connection.malformed = str(fault)
                self._changed.notify_all()
                return None
            is_probe = rest.split(b" ", 2)[1:2] and rest.split(b" ")[1].startswith(b"/probe/")
            early = self._at_head and head > 0 and not connection.answered_head and not is_probe
            if end < 0 and not early:
                return None
            answered, connection.answered_head = connection.answered_head, early and end < 0
            if end >= 0:
                connection.done += end
                self._requests.append(Request(rest[:end], connection))
                self._changed.notify_all()
            return () if answered else self._answer_to(rest[: end if end >= 0 else head])

    def _answer_to(self, raw: bytes) -> Steps:
        method, target, _ = raw.split(b" ", 2)
        if target.startswith(b"/probe/"):
            body = target
        elif self._answers:
            return self._answers.pop(0)
        else:
            body = DEFAULT_BODY
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        return (head if method == b"HEAD" else head + body,)

    def _write(self, peer: socket.socket, steps: Steps, connection: Connection) -> None:
        let_go = self._let_go
        for step in steps:
            match step:
                case bytes():
                    peer.sendall(step)
                case Act.PAUSE | Act.UNTIL_UPSTREAM:
                    time.sleep(0.02)
                case Act.HOLD:
                    let_go.wait(self.patience_s)
                case Act.HALF_CLOSE:
                    end_writing(peer)
                case Act.CLOSE | Act.CUT:
                    connection.closed_by_us = True
                    end_writing(peer, is_meant=step is Act.CLOSE)
                    drain(peer)
                    peer.close()
                case Act.RESET:
                    connection.closed_by_us = True
                    reset(peer)


def is_readable(one: socket.socket, timeout_ms: int | None) -> bool:
    """Whether bytes, an end or a connection wait there; None: wait until they do. OSError once it is closed."""
    if one.fileno() < 0:
        raise OSError("closed")
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def end_writing(peer: socket.socket, *, is_meant: bool = True) -> None:
    """A FIN; in TLS with the word before it that it `is_meant` (RFC 8446 6.1)."""
    if is_meant and isinstance(peer, ssl.SSLSocket):
        timeout_s = peer.gettimeout()
        peer.settimeout(0.05)
        with contextlib.suppress(OSError, ValueError):
            peer.unwrap()  # it is sent at once; whether the other side says the same is its business
        peer.settimeout(timeout_s)
    # Not its own, after which an SSLSocket reads what is still encrypted as if it were not.
    socket.socket.shutdown(peer, socket.SHUT_WR)


def drain(peer: socket.socket) -> None:
    """Reads what is still under way, so that our close is a FIN and not a reset."""
    peer.settimeout(0.05)
    with contextlib.suppress(OSError):
        while peer.recv(65536):
            pass


def reset(peer: socket.socket) -> None:
    """Closes with RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
