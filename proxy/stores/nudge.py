"""How a command waits for the running server: until it uses a change of the store, or has written its ledger.

Beside `X.db` the server listens on the unix socket `X.db.sock`, mode 0600. One line each way:

    applied? N      have you applied generation N, or a later one? Read the store before you answer.
    applied M       the generation in use now
    flushed?        write all that you have seen of senders into the ledger
    flushed         it is there
    time?           what time is it, by the clock that deadlines are judged by?
    time T          unix seconds
    failed WHY      the store could not be read, and what was known before is in use; or the ledger could not be written

A second server may run on the same store (a rolling restart): the first keeps the socket, and the second learns of
changes by its poll alone, within its poll interval. The next server to start takes over the socket of one that is gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISSOCK
from typing import TYPE_CHECKING

from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator

_MAX_LINE = 1024
#: Less than the client's patience, so that it hears why.
_ANSWER_TIMEOUT_S = 4.0
#: sun_path of unix(7) with its closing zero byte.
_SUN_PATH = 108


def socket_beside(store: Path) -> Path:
    """Where the server of a store listens."""
    return store.with_name(store.name + ".sock")


async def serve_nudges(
    path: Path,
    applied: Callable[[int], Awaitable[int]],
    flushed: Callable[[], Awaitable[None]] | None = None,
    clock: Callable[[], float] | None = None,
) -> asyncio.Server | None:
    """Answer nudges on the socket `path`; None if another living server does so already. Raises StoreError.

    `applied(N)` makes sure that generation N is in use and returns the one that is (`StoreWatch.sync`); `flushed()`
    brings the ledger up to date. Either may raise StoreError. `clock` is that of the deadlines.
    """
    import asyncio  # noqa: PLC0415 - 60 ms that a token command need not pay

    listening = _listen(path)
    if listening is None:
        return None

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    reply = await _reply_to(reader, applied, flushed, clock)
            except TimeoutError:
                reply = f"failed the store did not answer within {_ANSWER_TIMEOUT_S:.0f} s"
            writer.write(f"{reply}\n".encode())

    return await asyncio.start_unix_server(answer, sock=listening, limit=_MAX_LINE)


def nudge(path: Path, generation: int, timeout_s: float = 5.0) -> int | None:
    """The generation that the server on `path` uses once it has seen `generation`; None if no server is there.

    Raises StoreError if there is one, and it cannot say so in time.
    """
    answer = _ask(path, f"applied? {generation}", timeout_s)
    if answer is None:
        return None
    word, rest = answer
    if word == "applied" and rest.isdecimal():
        return int(rest)
    raise StoreError(f"{path}: the server there could not take the change: {rest or 'it closed the connection'}")


def ask_for_ledger(path: Path, timeout_s: float = 5.0) -> bool:
    """Have the server on `path` write its ledger; False if no server is there. Raises StoreError if it could not."""
    answer = _ask(path, "flushed?", timeout_s)
    if answer is None:
        return False
    word, rest = answer
    if word != "flushed":
        raise StoreError(rest or f"{path}: the server there closed the connection")
    return True


def ask_time(path: Path, timeout_s: float = 1.0) -> float | None:
    """The unix time by which the server on `path` judges deadlines; None if there is none, or it does not say."""
    try:
        answer = _ask(path, "time?", timeout_s)
        return float(answer[1]) if answer is not None and answer[0] == "time" else None
    except (StoreError, ValueError):
        return None


def _ask(path: Path, question: str, timeout_s: float) -> tuple[str, str] | None:
    """The first word of the answer, and the rest; None if no server is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_s)
        try:
            with _short(path) as address:
                peer.connect(address)
            peer.sendall(f"{question}\n".encode())
            with peer.makefile("rb") as answer:
                line = answer.readline(_MAX_LINE).decode(errors="replace")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except TimeoutError as error:
            raise StoreError(f"{path}: the server there did not answer within {timeout_s:.0f} s") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot ask the server there: {error.strerror}") from error
    word, _, rest = line.strip().partition(" ")
    return word, rest


async def _reply_to(
    reader: asyncio.StreamReader,
    applied: Callable[[int], Awaitable[int]],
    flushed: Callable[[], Awaitable[None]] | None,
    clock: Callable[[], float] | None,
) -> str:
    try:
        line = await reader.readline()
        word, _, number = line.decode("ascii").strip().partition(" ")
        if word == "flushed?" and flushed is not None:
            await flushed()
            return "flushed"
        if word == "time?" and clock is not None:
            return f"time {clock():.6f}"
        if word != "applied?" or not number.isdecimal():
            return "failed not understood"
        return f"applied {await applied(int(number))}"
    except ValueError:  # a line too long, or not of ASCII
        return "failed not understood"
    except StoreError as error:
        return "failed " + " ".join(str(error).split())[: _MAX_LINE // 2]


def _listen(path: Path) -> socket.socket | None:
    """A listening socket in the place of a dead one; None if a living one is there."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode of the file is that of the socket at bind: it is never open to others, not even for a moment.
        os.fchmod(listening.fileno(), 0o600)
        listening.setblocking(False)
        with _alone_in(path.parent), _short(path) as address:
            if _is_alive(address):
                listening.close()
                return None
            _remove_dead(Path(address))
            listening.bind(address)
            listening.listen(16)
    except OSError as error:
        listening.close()
        raise StoreError(f"{path}: cannot listen there: {error.strerror}: check the owner of the directory") from error
    except BaseException:
        listening.close()
        raise
    return listening


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


def _remove_dead(address: Path) -> None:
    with suppress(FileNotFoundError):
        if not S_ISSOCK(address.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "something that is no socket is in its place")
        address.unlink()


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Two servers that start at once must not both find the socket dead."""
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
