"""The key ring that seals what a login under way keeps in the browser, and what a session's provider is asked with.

(Fernet: AES-128-CBC and HMAC-SHA-256.) The first key signs, all verify. A key signs for a day and verifies for as long
as what it sealed may be wanted after that; so it is rotated as a token is, and nobody's login breaks. The ring is a
file of this machine's alone, shared by the processes that have it; without one it is this process's.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.login.flow import LOGIN_TTL_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cryptography.fernet import MultiFernet

_log = logging.getLogger("promgate.login")

ROTATE_AFTER_S: Final = 86400.0
#: A key that signs no more may have signed just before, by another process whose clock is another.
_SPARE_S: Final = 120.0
_MAX_FILE_BYTES: Final = 64 * 1024
#: Of a cookie (RFC 6265 6.1); what is longer was not sealed here.
MAX_COOKIE_BYTES: Final = 4096
_EVERYBODY: Final = 0o007


class SealError(Exception):
    """The ring cannot be used; the text names the file and says what to do."""


class _Key(NamedTuple):
    made_at: float
    secret: str


def keys_beside(store: Path) -> Path:
    """Where the ring stands: in the state directory, beside the token store."""
    return store.with_name(f"{store.name}.login-keys")


class Seal:
    """`file` None: the ring lives and ends with this process, and so do logins under way.

    What it seals is good for `lives_s`, and has no more than `max_text` characters when it is sealed.
    """

    def __init__(
        self, file: Path | None = None, *, lives_s: float = LOGIN_TTL_S, max_text: int = MAX_COOKIE_BYTES
    ) -> None:
        self._file, self._lives_s, self._max_text = file, lives_s, max_text
        self._keys: list[_Key] = []
        self._ring: MultiFernet | None = None
        self._mark: tuple[int, int, int] | None = None

    def prepare(self, now: float) -> None:
        """Read or make the ring, and rotate it when it is time. Touches the disk. Raises SealError."""
        if self._keys and now < self._keys[0].made_at + ROTATE_AFTER_S:
            return
        try:
            with self._locked():
                self._read()
                if not self._keys or now >= self._keys[0].made_at + ROTATE_AFTER_S:
                    self._rotate(now)
        except OSError as error:
            raise SealError(f"{self._file}: the keys of logins cannot be kept: {error.strerror or error}") from error

    def seal(self, memory: Mapping[str, str], now: float) -> str:
        """`memory` as a text of base64url, good for its time. Raises SealError where there is no ring yet."""
        try:
            self.prepare(now)
        except SealError as error:
            if self._ring is None:
                raise
            _log.warning("%s; the key of before goes on", error)
        assert self._ring is not None
        text = json.dumps(dict(memory), separators=(",", ":"))
        return self._ring.encrypt_at_time(text.encode(), int(now)).decode()

    def open(self, text: str, now: float) -> Mapping[str, str]:
        """What was sealed; empty for what was not, or too long ago."""
        if not text.isascii() or len(text) > self._max_text:
            return {}
        clear = self._opened(text, now)
        if clear is None and self._is_changed():
            with contextlib.suppress(OSError, SealError):
                self._read()
            clear = self._opened(text, now)
        return {} if clear is None else json.loads(clear)

    def _opened(self, text: str, now: float) -> bytes | None:
        if self._ring is None:
            return None
        from cryptography.fernet import InvalidToken  # noqa: PLC0415 - as in _use

        try:
            return self._ring.decrypt_at_time(text, int(self._lives_s), int(now))
        except InvalidToken:
            return None

    def _rotate(self, now: float) -> None:
        """A new key goes first. One that was superseded longer ago than a login may last has verified its last."""
        from cryptography.fernet import Fernet  # noqa: PLC0415 - as in _use

        before = self._keys
        superseded = [now, *(key.made_at for key in before)]
        kept = [key for key, at in zip(before, superseded, strict=False) if now < at + self._lives_s + _SPARE_S]
        keys = [_Key(now, Fernet.generate_key().decode()), *kept]
        if self._file is not None:
            self._write(self._file, keys)
        self._use(keys)

    def _read(self) -> None:
        """Take what the file holds; nothing where there is none yet."""
        if self._file is None:
            return
        try:
            with self._file.open("rb") as file:
                status = os.fstat(file.fileno())
                text = file.read(_MAX_FILE_BYTES)
        except FileNotFoundError:
            return
        if status.st_mode & _EVERYBODY:
            raise SealError(f"{self._file}: every user of this machine may open it: remove it, and new keys are made")
        try:
            keys = [_Key(float(made_at), str(secret)) for made_at, secret in json.loads(text)["keys"]]
            self._use(keys)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise SealError(f"{self._file}: holds no keys of logins: remove it, and new ones are made") from None
        self._mark = _mark_of(status)

    def _use(self, keys: list[_Key]) -> None:
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415 - 9 MB that only people's logins need

        self._ring = MultiFernet([Fernet(key.secret) for key in keys])
        self._keys = keys

    def _write(self, file: Path, keys: list[_Key]) -> None:
        """In one step, for us alone (mkstemp makes 0600)."""
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "w") as made:
                json.dump({"keys": keys}, made)
                made.flush()
                os.fsync(made.fileno())
                self._mark = _mark_of(os.fstat(made.fileno()))
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _is_changed(self) -> bool:
        if self._file is None:
            return False
        try:
            return _mark_of(self._file.stat()) != self._mark
        except OSError:
            return False

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time makes keys. The directory is what is locked: the file is replaced."""
        if self._file is None:
            yield
            return
        directory = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)


def _mark_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size
