"""What an upstream's files say: the TLS context it is reached with, and the credential that promgate shows it.

A changed file is taken once two looks in a row saw it so (who writes the certificate first and the key a moment later
is not accused of a mismatch); a bad one never: the last good state goes on.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.pki.context import PairError, build_client_context
from proxy.stamp import look_at

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from proxy.gate.snapshot import Upstream, UpstreamLogin
    from proxy.stamp import Stamp

_log = logging.getLogger("promgate.upstream")

POLL_S: Final = 1.0
_MAX_SECRET_BYTES: Final = 64 * 1024


class UpstreamFiles:
    """For one upstream. `line` is the Authorization line of requests to it, with its CRLF; empty for none."""

    def __init__(self, upstream: Upstream) -> None:
        self._tls, self._login = upstream.tls, upstream.login
        self._name = upstream.authority
        self.line = b"" if upstream.login is None else _line(upstream.login, upstream.login.secret)
        self._context: ssl.SSLContext | None = None
        named = [self._tls.ca_file, self._tls.cert_file, self._tls.key_file] if self._tls is not None else []
        self._tls_files = [Path(name) for name in named if name]
        self._secret_file = Path(self._login.file) if self._login is not None and self._login.file else None
        self._seen = self._judged = self._look()
        self._reading = False
        #: Called by `follow` once connections are made with another context than those before.
        self.on_new_context: Callable[[], None] = lambda: None

    @property
    def follows(self) -> bool:
        """Whether there is a file to look at."""
        return bool(self._tls_files) or self._secret_file is not None

    async def context(self) -> ssl.SSLContext | None:
        """The context to connect with, None for plain TCP. PairError: its files cannot be used."""
        if self._tls is not None and self._context is None:
            self._context = await asyncio.to_thread(build_client_context, self._tls)
        return self._context

    def poll(self) -> bool:
        """One look at the files; what has changed and is at rest is taken. Blocks, raises nothing.

        Whether there is a new context.
        """
        before, now = self._seen, self._look()
        self._seen = now
        if now != before or now == self._judged:
            return False
        changed = [path for path, stamp in now.items() if stamp != self._judged.get(path)]
        self._judged = now
        try:
            if self._secret_file in changed:
                self._read_secret(self._secret_file)
            if self._tls is not None and any(path in changed for path in self._tls_files):
                self._context = build_client_context(self._tls)
                _log.info("upstream %s: the changed TLS files are taken for new connections", self._name)
                return True
        except (PairError, OSError, ValueError) as error:
            _log.error("upstream %s: changed files are not taken, the last good ones go on: %s", self._name, error)
        return False

    async def read_again(self) -> None:
        """The credential was refused: it may have been changed a moment ago. A bad file is told of by `poll`."""
        if self._secret_file is None or self._reading:
            return
        self._reading = True
        try:
            await asyncio.to_thread(self._read_secret, self._secret_file)
        except (OSError, ValueError):
            pass
        finally:
            self._reading = False

    def _look(self) -> dict[Path, Stamp]:
        paths = self._tls_files if self._secret_file is None else [*self._tls_files, self._secret_file]
        return {path: look_at(path) for path in paths}

    def _read_secret(self, path: Path) -> None:
        assert self._login is not None
        with path.open("rb") as file:
            text = file.read(_MAX_SECRET_BYTES + 1).decode().rstrip("\r\n")
        if not text or not text.isprintable() or len(text) > _MAX_SECRET_BYTES:
            raise ValueError(f"{path}: holds no credential: one line of text is wanted")
        line = _line(self._login, text)
        if line == self.line:
            return
        self.line = line
        _log.info("upstream %s: the changed credential in %s is shown from now on", self._name, path)


async def follow(files: Callable[[], Iterable[UpstreamFiles]], poll_s: float = POLL_S) -> None:
    """Keep the files of all upstreams in view until cancelled; `files` is asked at each look."""
    while True:
        await asyncio.sleep(poll_s)
        there = [each for each in files() if each.follows]
        if there:
            for changed in await asyncio.to_thread(_poll, there):
                changed.on_new_context()


def _poll(files: list[UpstreamFiles]) -> list[UpstreamFiles]:
    return [each for each in files if each.poll()]


def _line(login: UpstreamLogin, secret: str) -> bytes:
    """RFC 7617 2, RFC 6750 2.1."""
    if not login.user:
        return f"Authorization: Bearer {secret}\r\n".encode()
    return b"Authorization: Basic %b\r\n" % base64.b64encode(f"{login.user}:{secret}".encode())
