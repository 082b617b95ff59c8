"""The audit file: appended to, on disk before its caller goes on, by any number of processes in turn.

A record is written in this order: lock, line, fsync, head. Who dies in between leaves one line more than the head
knows, which the next writer takes in; who is cut short leaves a piece of a line, which the next writer removes. So the
file and its head never differ by more than one record, and whatever else is found was somebody else's doing: then
nothing is written, and the text says what to do. The path is opened anew for each record: a file that was renamed
(logrotate) goes on in a new one with the same chain.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections import deque
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX
from typing import TYPE_CHECKING, Any, Final

from proxy.audit.head import Head, read_head, write_head
from proxy.audit.lock import PATIENCE_S, take_lock
from proxy.audit.record import GENESIS, MAX_LINE, Link, build_line, hash_line, read_line, time_text
from proxy.observe import metrics
from proxy.observe.metrics import Sample
from proxy.stores.place import give_to_owner_of, make_directory, sync_directory
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_log = logging.getLogger("promgate.audit")

_EVERYBODY: Final = 0o007
#: A prolonging that is owed to the record takes 1 KB.
_MAX_OWED: Final = 1000
_START: Final = Head(0, GENESIS, 0, 0)
#: What a view of the newest records reads.
_MAX_VIEW: Final = 1024 * 1024
_RESUMED: Final = {
    "action": "audit",
    "outcome": "resumed",
    "text": "the head beside the store was gone: what stood after this file's last record, nobody knows",
}


def head_beside(store: Path) -> Path:
    """Where the head of a store's trail is."""
    return store.with_name(store.name + "-audit")


class Trail:
    """`file` is the audit, `head_file` stands beside the store. Safe for threads. `trouble`: why it failed last."""

    def __init__(self, file: Path, head_file: Path, clock: Callable[[], float] = time.time) -> None:
        self.file = file
        self.head_file = head_file
        self.trouble = ""
        self._clock = clock
        self._written = 0
        self._failures = 0
        self._owed: deque[Mapping[str, Any]] = deque(maxlen=_MAX_OWED)

    def append(self, said: Mapping[str, Any], patience_s: float = PATIENCE_S) -> int:
        """Write one record for good; its number. StoreError: it is not there, and says what to do.

        `patience_s`: how long a process that holds the lock is waited for.
        """
        with self._judged(), self._locked(patience_s) as head_fd, self._opened() as (fd, is_new):
            head = self._pay(fd, head_fd, self._begin(fd, head_fd, is_new=is_new))
            return self._write(fd, head_fd, head, said).seq

    def owe(self, said: Mapping[str, Any]) -> None:
        """What was done and could not be written down before: it is, as soon as something can be. The log has it."""
        text = f"done at {time_text(self._clock())}, when the audit could not be written"
        self._owed.append({**said, "outcome": "late", "text": text})

    def check(self) -> None:
        """Whether a record could be written now, as far as can be told without writing one. Raises StoreError."""
        with self._judged(), self._locked(PATIENCE_S) as head_fd, self._opened() as (fd, is_new):
            if self._owed:
                self._pay(fd, head_fd, self._begin(fd, head_fd, is_new=is_new))
            self._find_end(fd, read_head(head_fd), is_new=is_new)
            disk = os.fstatvfs(fd)
            if not (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """The last records of the file that is in use, the newest first. Raises StoreError."""
        try:
            with self.file.open("rb") as opened:
                opened.seek(max(os.fstat(opened.fileno()).st_size - _MAX_VIEW, 0))
                lines = opened.read(_MAX_VIEW).splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self.file}: the audit cannot be read: {error.strerror}") from error
        read = (read_line(line) for line in reversed(lines))
        return [fields for _, (_, fields) in zip(range(limit), filter(None, read), strict=False)]

    def samples(self) -> Iterator[Sample]:
        """What a scrape is told."""
        yield Sample(metrics.AUDIT_RECORDS, self._written)
        yield Sample(metrics.AUDIT_FAILURES, self._failures)
        yield Sample(metrics.AUDIT_WRITABLE, not self.trouble)
        yield Sample(metrics.AUDIT_OWED, len(self._owed))

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Tell what went wrong in words, once in the log, and that it is over."""
        try:
            yield
        except OSError as error:
            self._fail(
                f"{error.filename or self.file}: the audit cannot be written ({error.strerror}), and what cannot be "
                "recorded is not changed: mend it, or take `audit` out of the configuration"
            )
            raise StoreError(self.trouble) from error
        except StoreError as error:
            self._fail(str(error))
            raise
        if self.trouble:
            self.trouble = ""
            _log.info("%s: the audit can be written again", self.file)

    def _fail(self, trouble: str) -> None:
        self._failures += 1
        if trouble != self.trouble:
            self.trouble = trouble
            _log.error("%s", trouble)

    @contextmanager
    def _locked(self, patience_s: float) -> Iterator[int]:
        """The head, for us alone. Its directory is made with the first record, as the store then is."""
        if not self.head_file.parent.exists():
            make_directory(self.head_file.parent)
        fd, is_new = _open(self.head_file, os.O_RDWR)
        try:
            take_lock(fd, LOCK_EX, self.head_file, patience_s)
            if is_new:
                sync_directory(self.head_file.parent)
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _opened(self) -> Iterator[tuple[int, bool]]:
        fd, is_new = _open(self.file, os.O_RDWR | os.O_APPEND)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{self.file}: is not a file: set audit.file to the path of one")
            if status.st_mode & _EVERYBODY:
                raise StoreError(f"{self.file}: every user of this machine may open it: `chmod o-rwx {self.file}`")
            if is_new:
                sync_directory(self.file.parent)
            yield fd, is_new
        finally:
            os.close(fd)

    def _begin(self, fd: int, head_fd: int, *, is_new: bool) -> Head:
        """The end that the next record is written after."""
        known = read_head(head_fd)
        head = self._find_end(fd, known, is_new=is_new)
        if head is None:  # a file with records, and nothing to hold it against
            head = self._adopt(fd)
            write_head(head_fd, head)
            return self._write(fd, head_fd, head, _RESUMED)
        if head.seq > (known or _START).seq:
            write_head(head_fd, head)  # else a torn write could leave the slot that is two records behind
        return head

    def _pay(self, fd: int, head_fd: int, head: Head) -> Head:
        """Write down what is owed, the oldest first."""
        with suppress(IndexError):
            while True:
                head = self._write(fd, head_fd, head, self._owed[0])
                self._owed.popleft()
        return head

    def _find_end(self, fd: int, head: Head | None, *, is_new: bool) -> Head | None:
        """The last record and where it ends; None: there are records, and no head to hold them against."""
        status = os.fstat(fd)
        is_same = head is not None and head.inode == status.st_ino and not is_new
        if head is not None and is_same and head.size == status.st_size:
            return head
        link, size = _last_of(fd, status.st_size)
        if link is None and size == 0 and not is_same:
            found: Head | None = (head or _START)._replace(inode=status.st_ino, size=0)
        elif link is not None and _follows(link, head):
            found = Head(link.seq, link.hash, status.st_ino, size)
        elif head is None and link is not None:
            found = None
        else:
            raise StoreError(self._unlike(head or _START, is_cut=is_same and status.st_size < (head or _START).size))
        if size < status.st_size:
            os.ftruncate(fd, size)  # a piece of a line, by a process that did not come to its end
        return found

    def _adopt(self, fd: int) -> Head:
        status = os.fstat(fd)
        link, size = _last_of(fd, status.st_size)
        assert link is not None
        if size < status.st_size:
            os.ftruncate(fd, size)
        return Head(link.seq, link.hash, status.st_ino, size)

    def _unlike(self, head: Head, *, is_cut: bool) -> str:
        what = (
            "was cut short: by somebody, or by logrotate's `copytruncate`, which loses records; have it rename the file"
            if is_cut
            else f"does not end with record {head.seq}, which was the last one written"
        )
        return (
            f"{self.file}: {what}. `promgate audit verify` tells what is missing; nothing is changed until the file is "
            f"moved away (`mv {self.file} {self.file}.odd`): then a new one goes on"
        )

    def _write(self, fd: int, head_fd: int, head: Head, said: Mapping[str, Any]) -> Head:
        line = build_line(head.seq + 1, head.hash, self._clock(), said)
        fresh = Head(head.seq + 1, hash_line(line), head.inode, head.size + len(line))
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
            write_head(head_fd, fresh)
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, head.size)
            raise
        self._written += 1
        return fresh


def _open(file: Path, flags: int) -> tuple[int, bool]:
    """The file and whether it is a new one, which is for us alone."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # no link, and no waiting for the reader of a pipe
    with suppress(FileNotFoundError):
        return os.open(file, flags), False
    try:
        fd = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(file, flags), False
    give_to_owner_of(file.parent, file)
    return fd, True


def _follows(link: Link, head: Head | None) -> bool:
    """Whether the file's last record is the last that was written, or the one that a kill kept from the head."""
    seq, digest = (head.seq, head.hash) if head is not None else (0, GENESIS)
    return link.hash == digest or (link.seq == seq + 1 and link.prev == digest)


def _last_of(fd: int, size: int) -> tuple[Link | None, int]:
    """The last whole line as a link (None: there is none, or it is none of ours), and where it ends."""
    start = max(size - 2 * MAX_LINE, 0)
    data = os.pread(fd, size - start, start)
    whole = data.rfind(b"\n") + 1
    if not whole:
        return None, start
    before = data.rfind(b"\n", 0, whole - 1) + 1
    read = read_line(data[before:whole])
    return (None if read is None else read[0]), start + whole
