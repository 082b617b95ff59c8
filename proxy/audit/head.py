"""What is known of the end of a trail, in a file of its own beside the store: so that an end cut off is missed.

Two slots, written in turn: a write that a kill or a power cut tears leaves the other one. The file is the lock of the
trail, too, for it is never replaced.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple
from zlib import crc32

_SLOT = 192


class Head(NamedTuple):
    """The last record, and the file that it stands in: its inode, and its size with that record."""

    seq: int
    hash: str
    inode: int
    size: int


def read_head(fd: int) -> Head | None:
    """The newer of the slots that are whole; None: nothing was recorded yet, as far as is known here."""
    data = os.pread(fd, 2 * _SLOT, 0)
    heads = [head for at in (0, _SLOT) if (head := _decode(data[at : at + _SLOT])) is not None]
    return max(heads, default=None)


def write_head(fd: int, head: Head) -> None:
    """For good. OSError: the head before is still there."""
    if os.pwrite(fd, _encode(head), head.seq % 2 * _SLOT) != _SLOT:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fdatasync(fd)


def _encode(head: Head) -> bytes:
    body = " ".join(map(str, head)).encode("ascii")
    return (b"%s %08x" % (body, crc32(body))).ljust(_SLOT - 1) + b"\n"


def _decode(slot: bytes) -> Head | None:
    body, _, check = slot.rstrip().rpartition(b" ")
    try:
        if len(slot) != _SLOT or int(check, 16) != crc32(body):
            return None
        seq, digest, inode, size = body.decode("ascii").split(" ")
        return Head(int(seq), digest, int(inode), int(size))
    except ValueError:
        return None
