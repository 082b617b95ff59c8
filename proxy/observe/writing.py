"""Writing to a file, a pipe or a terminal from the event loop: a reader that has stopped costs lines, never time."""

from __future__ import annotations

import contextlib
import os
import select
import stat


class LineWriter:
    """Writes lines to `fd`. After a line that could not be written whole, the next one begins on a line of its own."""

    __slots__ = ("_fd", "_gap", "_put")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._gap = b""  # a line break, while the last line has no end
        self._put = _write if stat.S_ISREG(os.fstat(fd).st_mode) else _write_what_fits

    def write(self, lines: bytes) -> int:
        """How many of the lines were lost: a full disk or pipe costs lines."""
        data = self._gap + lines
        written = self._put(self._fd, data)
        lost = data.count(b"\n", max(written, len(self._gap)))
        if written:
            self._gap = b"" if data[written - 1 : written] == b"\n" else b"\n"
        return lost


def _write(fd: int, data: bytes) -> int:
    """How much of `data` could be written: all, or less on a full disk."""
    view, written = memoryview(data), 0
    with contextlib.suppress(OSError):
        while written < len(data):
            written += os.write(fd, view[written:])
    return written


def _write_what_fits(fd: int, data: bytes) -> int:
    """As `_write`, for a pipe or terminal whose reader may have stopped: no write is begun that could wait.

    A pipe that polls as writable takes PIPE_BUF octets at once (pipe(7)).
    """
    ready = select.poll()
    ready.register(fd, select.POLLOUT)
    view, written = memoryview(data), 0
    with contextlib.suppress(OSError):
        while written < len(data) and ready.poll(0):
            written += os.write(fd, view[written : written + select.PIPE_BUF])
    return written
