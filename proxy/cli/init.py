"""`promgate init`: what a first start needs and does not find: a certificate, the admin's password, a write token.

Safe at every start and against a kill at any moment. A secret is written to NAME.new, then what makes it good is
committed (a row of the store, the htpasswd file), then NAME.new gets its name; what a killed run left is finished or
made anew. What was committed once is never made again: an operator may take a secret's file away. No secret is printed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.audit.operation import Operation, asked_here, open_trail
from proxy.cli import add_config_file, say
from proxy.config.read import ConfigError, load
from proxy.stores.place import make_directory, sync_directory
from proxy.stores.sqlite import open_store
from proxy.stores.unmade import UnmadeStore
from proxy.tokens.lifecycle import Refusal, create
from proxy.tokens.ports import StoreError
from proxy.tokens.secret import digest
from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.config.schema import Settings

#: Beside the store; a configuration names it in `htpasswd_file`.
USERS_FILE = "users.htpasswd"
#: 192 bits, 32 characters: nobody types it twice, nobody guesses it.
_PASSWORD_BYTES = 24


class InitError(Exception):
    """Something is in the way; the text says what to do. What was made before stays."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A secret just made, and the step from which on it is good."""

    clear: str
    commit: Callable[[], object]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    line = "make what a first start needs and does not find; run it before every start"
    parser = subparsers.add_parser("init", help=line, description=line, allow_abbrev=False)
    add_config_file(parser)
    parser.add_argument("--dns", action="append", default=[], metavar="HOST", help="a name the certificate stands for")
    parser.add_argument("--ip", action="append", default=[], metavar="IP", help="an address it stands for")
    parser.add_argument("--write-token", metavar="NAME", help="make the first write token of NAME, in NAME.token")
    parser.add_argument(
        "--admin-password", action="store_true", help=f"make {USERS_FILE} with the user admin, and admin.password"
    )
    parser.add_argument(
        "--serve", nargs=argparse.REMAINDER, metavar="ARG", help="then become `promgate serve` with these arguments"
    )


def run(args: argparse.Namespace) -> int:
    # Not left to whoever starts us: nothing made here is for others.
    os.umask(0o077)
    config_file = Path(args.config_file)
    try:
        settings = load(config_file, open_files=False).settings
        state = _state_directory(settings)
        with _alone(state):
            _make_certificate(settings, args.dns, args.ip)
            if args.admin_password:
                _make_password(state)
            if args.write_token is not None:
                _make_token(settings, args.write_token)
    except (ConfigError, StoreError, InitError) as error:
        say(error)
        return 1
    except OSError as error:
        say(f"{error.filename}: {error.strerror}: is the volume there, and may uid {os.geteuid()} write it?")
        return 1
    if args.serve is not None:
        _become_server(config_file, args.serve)
    return 0


def _state_directory(settings: Settings) -> Path:
    if settings.store is None:
        raise InitError(f"{settings.path}: tokens.store is not set: its directory is where everything is kept")
    make_directory(settings.store.parent)
    return settings.store.parent


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Two containers that start on one volume take turns. The lock goes with the process, however it ends."""
    place = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _make_certificate(settings: Settings, dns: list[str], addresses: list[str]) -> None:
    """The pair that the configuration names. It is written key first: where the certificate is, all is."""
    if settings.tls is None or settings.tls.cert_file.exists():
        return
    from proxy.pki.authority import AuthorityError, Leaf, issue, make_authority  # noqa: PLC0415 - 9 MB, once in a life

    cert_file, key_file = settings.tls.cert_file, settings.tls.key_file
    directory = cert_file.parent
    if (cert_file.suffix, key_file) != (".crt", cert_file.with_suffix(".key")):
        raise InitError(f"{cert_file}: is not there, and only a pair NAME.crt and NAME.key can be made: bring your own")
    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if not (directory / "ca.crt").exists():
            make_authority(directory, now, force=True)  # over the key of a run that was killed before it had signed
            say(f"made an authority: clients trust {directory / 'ca.crt'}")
        issue(directory, Leaf(cert_file.stem, dns, addresses), now, force=True)
    except AuthorityError as error:
        raise InitError(str(error)) from error
    say(f"made the server's certificate {cert_file}, for {', '.join([*dns, *addresses]) or cert_file.stem}")


def _make_password(state: Path) -> None:
    users_file = state / USERS_FILE

    def fresh() -> Fresh:
        password = secrets.token_urlsafe(_PASSWORD_BYTES)
        line = f"admin:{_hash(password)}"
        return Fresh(password, lambda: _put(users_file, line))

    _hand_over(state / "admin.password", "password of the user admin", users_file.exists, fresh)


def _make_token(settings: Settings, name: str) -> None:
    assert settings.store is not None
    file = settings.store.parent / f"{name}.token"
    is_first = not settings.store.exists()
    with closing(UnmadeStore(settings.store) if is_first else open_store(settings.store)) as store:
        trail = open_trail(settings.audit, settings.store)
        watched = store if trail is None else Operation(trail, asked_here("init")).watch(store)

        def fresh() -> Fresh:
            issued = create(name, store.named(name), kind=TokenKind.WRITE, now=time.time(), random=os.urandom)
            if isinstance(issued, Refusal):
                raise InitError(issued.text)
            return Fresh(issued.secret.reveal(), lambda: watched.commit(issued.change))

        waiting = _waiting(file)
        if waiting.exists() and store.find(digest(waiting.read_bytes().strip())) is None:
            waiting.unlink()  # never committed, and the name may have got another token since
        _hand_over(file, f"write token {name}", lambda: bool(store.named(name)), fresh)


def _hand_over(file: Path, what: str, is_committed: Callable[[], bool], make: Callable[[], Fresh]) -> None:
    """Leave a secret in `file`, once: the order of the module's docstring."""
    waiting = _waiting(file)
    if is_committed():
        if not waiting.exists():
            return
    elif file.exists():
        raise InitError(f"{file}: is there, but nothing knows this {what} any more: restore the volume, or remove it")
    else:
        fresh = make()
        _put(waiting, fresh.clear)
        fresh.commit()
    waiting.replace(file)
    sync_directory(file.parent)
    say(f"made the {what}: it is in {file}")


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


def _hash(password: str) -> str:
    """By `promgate hash-password`, through a pipe: bcrypt stays in its rooms."""
    command = [sys.executable, "-m", "proxy", "hash-password"]
    return subprocess.run(command, input=password, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()  # noqa: S603


def _become_server(config_file: Path, words: list[str]) -> None:
    """The server takes our process id, so that it gets the signals, and nothing of what init has loaded."""
    sys.stderr.flush()
    command = [sys.executable, "-m", "proxy", "serve", f"--config.file={config_file}", *words]
    os.execv(sys.executable, command)  # noqa: S606
