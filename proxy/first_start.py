"""What a first start needs and does not find, made once: a certificate, the admin's password, a write token.

Safe at every start and against a kill at any moment. A secret is written to NAME.new, then what makes it good is
committed (a row of the store, the htpasswd file), then NAME.new gets its name; what a killed run left is finished or
made anew. What was committed once is never made again: an operator may take a secret's file away. No secret is told.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.audit.operation import Operation, asked_here, open_trail
from proxy.stores.place import make_directory, sync_directory
from proxy.stores.sqlite import open_store
from proxy.stores.unmade import UnmadeStore
from proxy.tokens.lifecycle import Refusal, create
from proxy.tokens.secret import digest
from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from proxy.config.schema import Settings

#: Beside the store; a configuration names it in `htpasswd_file`.
USERS_FILE = "users.htpasswd"
#: 192 bits, 32 characters: nobody types it twice, nobody guesses it.
_PASSWORD_BYTES = 24


class FirstStartError(Exception):
    """Something is in the way; the text says what to do. What was made before stays."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A secret just made, and the step from which on it is good."""

    clear: str
    commit: Callable[[], object]


class FirstStart:
    """For a configuration. `tell` hears of what is made; `hash_password` is bcrypt, which stays in its rooms."""

    def __init__(self, settings: Settings, tell: Callable[[str], None], hash_password: Callable[[str], str]) -> None:
        if settings.store is None:
            text = "tokens.store is not set: its directory is where everything is kept"
            raise FirstStartError(f"{settings.path}: {text}")
        self._settings, self._store, self._state = settings, settings.store, settings.store.parent
        self._tell, self._hash_password = tell, hash_password

    def make(
        self, dns: Sequence[str], addresses: Sequence[str], *, admin_password: bool, write_token: str | None
    ) -> None:
        """All that is missing, of the certificate and of what else is asked for. FirstStartError, StoreError, OSError.

        `dns` and `addresses` are what the certificate stands for, `write_token` the name of the first one.
        """
        make_directory(self._state)
        with _alone(self._state):
            self._make_certificate(dns, addresses)
            if admin_password:
                self._make_password()
            if write_token is not None:
                self._make_token(write_token)

    def _make_certificate(self, dns: Sequence[str], addresses: Sequence[str]) -> None:
        """The pair that the configuration names. It is written key first: where the certificate is, all is."""
        tls = self._settings.tls
        if tls is None or tls.cert_file.exists():
            return
        from proxy.pki.authority import AuthorityError, Leaf, issue, make_authority  # noqa: PLC0415 - 9 MB, once in a life

        cert_file, key_file = tls.cert_file, tls.key_file
        directory = cert_file.parent
        if (cert_file.suffix, key_file) != (".crt", cert_file.with_suffix(".key")):
            text = "is not there, and only a pair NAME.crt and NAME.key can be made: bring your own"
            raise FirstStartError(f"{cert_file}: {text}")
        now = datetime.now(UTC).replace(microsecond=0)
        try:
            if not (directory / "ca.crt").exists():
                make_authority(directory, now, force=True)  # over the key of a run that was killed before it had signed
                self._tell(f"made an authority: clients trust {directory / 'ca.crt'}")
            issue(directory, Leaf(cert_file.stem, dns, addresses), now, force=True)
        except AuthorityError as error:
            raise FirstStartError(str(error)) from error
        self._tell(f"made the server's certificate {cert_file}, for {', '.join([*dns, *addresses]) or cert_file.stem}")

    def _make_password(self) -> None:
        users_file = self._state / USERS_FILE

        def fresh() -> Fresh:
            password = secrets.token_urlsafe(_PASSWORD_BYTES)
            line = f"admin:{self._hash_password(password)}"
            return Fresh(password, lambda: _put(users_file, line))

        self._hand_over(self._state / "admin.password", "password of the user admin", users_file.exists, fresh)

    def _make_token(self, name: str) -> None:
        file = self._state / f"{name}.token"
        is_first = not self._store.exists()
        with closing(UnmadeStore(self._store) if is_first else open_store(self._store)) as store:
            trail = open_trail(self._settings.audit, self._store)
            watched = store if trail is None else Operation(trail, asked_here("init")).watch(store)

            def fresh() -> Fresh:
                issued = create(name, store.named(name), kind=TokenKind.WRITE, now=time.time(), random=os.urandom)
                if isinstance(issued, Refusal):
                    raise FirstStartError(issued.text)
                return Fresh(issued.secret.reveal(), lambda: watched.commit(issued.change))

            waiting = _waiting(file)
            if waiting.exists() and store.find(digest(waiting.read_bytes().strip())) is None:
                waiting.unlink()  # never committed, and the name may have got another token since
            self._hand_over(file, f"write token {name}", lambda: bool(store.named(name)), fresh)

    def _hand_over(self, file: Path, what: str, is_committed: Callable[[], bool], make: Callable[[], Fresh]) -> None:
        """Leave a secret in `file`, once: the order of the module's docstring."""
        waiting = _waiting(file)
        if is_committed():
            if not waiting.exists():
                return
        elif file.exists():
            text = f"is there, but nothing knows this {what} any more: restore the volume, or remove it"
            raise FirstStartError(f"{file}: {text}")
        else:
            fresh = make()
            _put(waiting, fresh.clear)
            fresh.commit()
        waiting.replace(file)
        sync_directory(file.parent)
        self._tell(f"made the {what}: it is in {file}")


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Two containers that start on one volume take turns. The lock goes with the process, however it ends."""
    place = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _waiting(file: Path) -> Path:
    return file.with_name(f"{file.name}.new")


def _put(file: Path, text: str) -> None:
    """Replace the file whole, 0600 from its first byte, and for good."""
    temporary = file.with_name(f".{file.name}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(f"{text}\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
    sync_directory(file.parent)
