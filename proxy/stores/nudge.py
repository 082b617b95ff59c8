"""How a command waits for the running servers: until they use a change of the store, or have written the ledger.

Beside `X.db` each server listens on a unix socket of its own, `X.db.sock-RANDOM`, mode 0600: there may be two, in a
rolling restart. A command asks all of them at once, and is told no more than all of them say. One line each way:

    applied? N      have you applied generation N, or a later one? Read the store before you answer.
    applied M       the generation in use now
    flushed?        write all that you have seen of senders into the ledger
    flushed         it is there
    time?           what time is it, by the clock that deadlines are judged by?
    time T          unix seconds
    listen?         where are the public listeners?
    listen A B      their addresses, as the configuration writes them; the command line may have said others
    failed WHY      the store could not be read, and what was known before is in use; or the ledger could not be written

The socket of a server that is gone refuses; the next server to start removes it.
"""

from __future__ import annotations

import fcntl
import glob
import os
import socket
from contextlib import ExitStack, closing, contextmanager, suppress
from stat import S_ISSOCK
from typing import TYPE_CHECKING, NamedTuple

from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

_MAX_LINE = 1024
#: Less than the client's patience, so that it hears why.
_ANSWER_TIMEOUT_S = 4.0
#: sun_path of unix(7) with its closing zero byte.
_SUN_PATH = 108


class NudgeServer(NamedTuple):
    """Answers until `close`, which takes the socket away."""

    path: Path
    server: asyncio.Server

    def close(self) -> None:
        self.server.close()
        self.path.unlink(missing_ok=True)


async def serve_nudges(
    store: Path,
    applied: Callable[[int], Awaitable[int]],
    flushed: Callable[[], Awaitable[None]] | None = None,
    clock: Callable[[], float] | None = None,
    listen: str = "",
) -> NudgeServer:
    """Answer nudges about `store`. Raises StoreError.

    `applied(N)` makes sure that generation N is in use and returns the one that is (`StoreWatch.sync`); `flushed()`
    brings the ledger up to date. Either may raise StoreError. `clock` is that of the deadlines, `listen` the addresses
    of the public listeners.
    """
    import asyncio  # noqa: PLC0415 - 60 ms that a token command need not pay

    path = store.with_name(f"{store.name}.sock-{os.urandom(4).hex()}")
    listening = _listen(store, path)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    reply = await _reply_to(reader, applied, flushed, clock, listen)
            except TimeoutError:
                reply = f"failed the store did not answer within {_ANSWER_TIMEOUT_S:.0f} s"
            writer.write(f"{reply}\n".encode())

    return NudgeServer(path, await asyncio.start_unix_server(answer, sock=listening, limit=_MAX_LINE))


def nudge(store: Path, generation: int, timeout_s: float = 5.0) -> int | None:
    """The generation that every server on `store` uses once it has seen `generation`; None if no server is there.

    Raises StoreError if one is there that cannot say so in time; the others have been told all the same.
    """
    applied = []
    for path, answer in _ask_all(store, f"applied? {generation}", timeout_s):
        word, rest = _believed(answer)
        if word != "applied" or not rest.isdecimal():
            why = rest or "it closed the connection"
            raise StoreError(f"{path}: the server there could not take the change: {why}")
        applied.append(int(rest))
    return min(applied, default=None)


def ask_for_ledger(store: Path, timeout_s: float = 5.0, *, but: Path | None = None) -> bool:
    """Have every server on `store` write its ledger; False if no server is there. Raises StoreError if one cannot.

    `but`: the socket of one that need not be asked, the caller's own.
    """
    answers = _ask_all(store, "flushed?", timeout_s, but)
    for path, answer in answers:
        word, rest = _believed(answer)
        if word != "flushed":
            raise StoreError(rest or f"{path}: the server there closed the connection")
    return bool(answers)


def ask_time(store: Path, timeout_s: float = 1.0) -> float | None:
    """The unix time by which a server on `store` judges deadlines; None if there is none, or none says."""
    for _, answer in _ask_all(store, "time?", timeout_s):
        with suppress(StoreError, ValueError):
            word, rest = _believed(answer)
            if word == "time":
                return float(rest)
    return None


def ask_listen(store: Path, timeout_s: float = 1.0) -> list[str]:
    """The addresses where a server on `store` listens; empty if there is none, or none says."""
    for _, answer in _ask_all(store, "listen?", timeout_s):
        with suppress(StoreError):
            word, rest = _believed(answer)
            if word == "listen":
                return rest.split()
    return []


Answer = tuple[str, str] | StoreError


def _believed(answer: Answer) -> tuple[str, str]:
    """The first word, and the rest; StoreError if there is no answer."""
    if isinstance(answer, StoreError):
        raise answer
    return answer


def _ask_all(
    store: Path, question: str, timeout_s: float, but: Path | None = None
) -> list[tuple[Path, Answer]]:
    """What each living server answers. All have been asked before the first is waited for."""
    with ExitStack() as stack:
        waiting: list[tuple[Path, socket.socket | StoreError]] = []
        for path in _sockets_beside(store):
            if path == but:
                continue
            peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            peer.settimeout(timeout_s)
            try:
                with _short(path) as address:
                    peer.connect(address)
                peer.sendall(f"{question}\n".encode())
            except OSError as error:
                if not _is_gone(path, error):
                    waiting.append((path, _cannot_ask(path, error, timeout_s)))
            else:
                waiting.append((path, peer))
        told = [
            (path, one if isinstance(one, StoreError) else _read(path, one, timeout_s)) for path, one in waiting
        ]
    return [(path, answer) for path, answer in told if answer is not None]


def _read(path: Path, peer: socket.socket, timeout_s: float) -> Answer | None:
    """None: it went without an answer, and is no server any more."""
    try:
        with peer.makefile("rb") as answer:
            line = answer.readline(_MAX_LINE).decode(errors="replace")
    except OSError as error:
        return None if _is_gone(path, error) else _cannot_ask(path, error, timeout_s)
    if not line and _is_gone(path, ConnectionResetError()):
        return None
    word, _, rest = line.strip().partition(" ")
    return word, rest


def _is_gone(path: Path, error: OSError) -> bool:
    """Whether nobody listens there any more: an answer that never came was none to wait for."""
    if not isinstance(error, FileNotFoundError | ConnectionError):
        return False
    with _short(path) as address:
        return not _is_alive(address)


def _cannot_ask(path: Path, error: OSError, timeout_s: float) -> StoreError:
    if isinstance(error, TimeoutError):
        return StoreError(f"{path}: the server there did not answer within {timeout_s:.0f} s")
    return StoreError(f"{path}: cannot ask the server there: {error.strerror}")


def _sockets_beside(store: Path) -> list[Path]:
    """Of living servers, and of dead ones."""
    return sorted(store.parent.glob(f"{glob.escape(store.name)}.sock-*"))


async def _reply_to(
    reader: asyncio.StreamReader,
    applied: Callable[[int], Awaitable[int]],
    flushed: Callable[[], Awaitable[None]] | None,
    clock: Callable[[], float] | None,
    listen: str,
) -> str:
    try:
        line = await reader.readline()
        word, _, number = line.decode("ascii").strip().partition(" ")
        if word == "flushed?" and flushed is not None:
            await flushed()
            return "flushed"
        if word == "time?" and clock is not None:
            return f"time {clock():.6f}"
        if word == "listen?" and listen:
            return f"listen {listen}"
        if word != "applied?" or not number.isdecimal():
            return "failed not understood"
        return f"applied {await applied(int(number))}"
    except ValueError:  # a line too long, or not of ASCII
        return "failed not understood"
    except StoreError as error:
        return "failed " + " ".join(str(error).split())[: _MAX_LINE // 2]


def _listen(store: Path, path: Path) -> socket.socket:
    """A listening socket; those of servers that are gone are removed."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode of the file is that of the socket at bind: it is never open to others, not even for a moment.
        os.fchmod(listening.fileno(), 0o600)
        listening.setblocking(False)
        with _alone_in(store.parent):  # or another server that starts would find ours bound and not listening: dead
            for other in _sockets_beside(store):
                _remove_if_dead(other)
            with _short(path) as address:
                listening.bind(address)
            listening.listen(16)
    except OSError as error:
        listening.close()
        raise StoreError(f"{path}: cannot listen there: {error.strerror}: check the owner of the directory") from error
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_if_dead(path: Path) -> None:
    with suppress(FileNotFoundError), _short(path) as address:
        if S_ISSOCK(path.lstat().st_mode) and not _is_alive(address):
            path.unlink()


def _is_alive(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.setblocking(False)
        try:
            peer.connect(address)
        except BlockingIOError:  # its queue is full: someone listens
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Servers that start at once take turns."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of `path` that fits into a socket address while this block lasts: by way of its directory, if need be."""
    if len(os.fsencode(path)) < _SUN_PATH:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{fd}/{path.name}"
        if len(os.fsencode(short)) >= _SUN_PATH:
            raise StoreError(f"{path}: this name is too long for a unix socket: give the store file a shorter name")
        yield short
    finally:
        os.close(fd)
