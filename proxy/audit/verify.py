"""Read a trail again, from its oldest file to its head: what was deleted, edited, put in another order or cut off.

What the files cannot tell: that somebody who could write the head as well has made all of it anew. Against that, note a
head elsewhere, and show it here. Records before it may be gone, on purpose: files are kept for as long as you like.
"""

from __future__ import annotations

import gzip
import os
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fcntl import LOCK_SH
from typing import IO, TYPE_CHECKING, Final, NamedTuple, cast

from proxy.audit.head import Head, read_head
from proxy.audit.lock import PATIENCE_S, take_lock
from proxy.audit.record import GENESIS, MAX_LINE, Link, read_line
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from proxy.audit.trail import Trail

#: One edit need not be told a million times.
_MOST: Final = 20


class Noted(NamedTuple):
    """A head that was noted elsewhere: record `seq` had this hash. What was before it may be gone."""

    seq: int
    hash: str


@dataclass
class Verdict:
    """`problems`: what was done to it. `notes`: what may be so. `first` is a number, `last` a record (None: none)."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: int = 0
    first: int = 0
    last: Link | None = None

    def object(self, text: str) -> None:
        if len(self.problems) <= _MOST:
            self.problems.append(text if len(self.problems) < _MOST else "and more")


class _File(NamedTuple):
    """One file as it was when the head was read: `size` octets of what it says now."""

    path: Path
    opened: IO[bytes]
    size: int

    def lines(self) -> Iterator[bytes]:
        left = self.size
        self.opened.seek(0)
        while left > 0 and (line := self.opened.readline(min(left, MAX_LINE + 1))):
            left -= len(line)
            yield line

    @property
    def begin(self) -> int:
        """The number of its first record; 0 if it begins with none."""
        read = read_line(next(self.lines(), b""))
        return 0 if read is None else read[0].seq


def verify(trail: Trail, noted: Noted | None = None, *, patience_s: float = PATIENCE_S) -> Verdict:
    """Judge `trail`: its file, and those beside it that it was renamed to. Raises StoreError.

    `patience_s`: how long a writer that has the lock is waited for.
    """
    verdict, is_found = Verdict(), False
    try:
        with ExitStack() as stack:
            head, files = _look(trail, stack, patience_s)
            for file in sorted(files, key=lambda one: one.begin):
                if file.begin == 0 and file.path != trail.file:
                    verdict.notes.append(f"{file.path} begins with no record, and was left out")
                    continue
                for link in _read(verdict, file):
                    is_found |= noted in {(link.seq, link.hash), (link.seq - 1, link.prev)}
    except (OSError, EOFError) as error:
        raise StoreError(f"{trail.file}: the audit cannot be read: {error}") from error
    _judge_end(verdict, trail, head)
    if noted is not None and not is_found:
        verdict.object(f"record {noted.seq} is not here as it was noted: all of it may have been made anew")
    elif noted is None and verdict.first > 1:
        verdict.object(
            f"it begins with record {verdict.first}, and those before are not here: if they were removed on purpose, "
            "show the head that an earlier run has printed (--head SEQ:HASH)"
        )
    return verdict


def _look(trail: Trail, stack: ExitStack, patience_s: float) -> tuple[Head | None, list[_File]]:
    """The head and all files, as of one moment: no writer may come in between, and none waits for what we read."""
    with ExitStack() as moment:
        head = None
        if trail.head_file.exists():
            known = moment.enter_context(trail.head_file.open("rb"))
            take_lock(known.fileno(), LOCK_SH, trail.head_file, patience_s)
            head = read_head(known.fileno())
        files = []
        for path in trail.file.parent.iterdir():
            if path.name.startswith(trail.file.name) and path != trail.head_file and path.is_file():
                opened = stack.enter_context(closing(path.open("rb")))
                files.append(_File(path, opened, os.fstat(opened.fileno()).st_size))
    return head, [_unpacked(file, stack) for file in files]


def _unpacked(file: _File, stack: ExitStack) -> _File:
    if file.path.suffix != ".gz":
        return file
    clear = stack.enter_context(gzip.GzipFile(fileobj=file.opened))
    return _File(file.path, cast("IO[bytes]", clear), 1 << 62)


def _read(verdict: Verdict, file: _File) -> Iterator[Link]:
    """Judge the records of a file, each by the one before."""
    for number, line in enumerate(file.lines(), 1):
        place = f"{file.path}:{number}"
        read = read_line(line)
        if read is not None:
            _judge(verdict, read[0], place)
            yield read[0]
        elif line.endswith(b"\n") or len(line) > MAX_LINE:
            verdict.object(f"{place}: this is no record")
        else:
            verdict.notes.append(f"{place}: a piece of a record, by a process that was ended; the next one removes it")


def _judge(verdict: Verdict, link: Link, place: str) -> None:
    before = verdict.last
    if before is None:
        verdict.first = link.seq
        if link.seq == 1 and link.prev != GENESIS:
            verdict.object(f"{place}: record 1 was edited")
    elif link.seq > before.seq + 1:
        gone = link.seq - before.seq - 1
        verdict.object(f"{place}: {gone} record{'s' * (gone > 1)} before record {link.seq} missing: deleted")
    elif link.seq <= before.seq:
        verdict.object(f"{place}: record {link.seq} stands behind record {before.seq}: moved or put in")
    elif link.prev != before.hash:
        verdict.object(f"{place}: record {before.seq} is not the one that record {link.seq} was written after: edited")
    verdict.last = link
    verdict.records += 1


def _judge_end(verdict: Verdict, trail: Trail, head: Head | None) -> None:
    last = verdict.last
    if head is None:
        # The very first record may be there before its head is.
        if last is None or (last.seq == 1 and verdict.records == 1):
            verdict.notes.append("nothing was known to be recorded yet")
        else:
            verdict.object(f"{trail.head_file} is gone or damaged: whether records are missing at the end is not known")
        return
    if last is None or last.seq < head.seq:
        end = "nothing is there" if last is None else f"it ends with record {last.seq}"
        verdict.object(f"{trail.file}: {end}, and record {head.seq} was written: cut off at the end")
    elif last.seq == head.seq:
        if last.hash != head.hash:
            verdict.object(f"{trail.file}: the last record, {last.seq}, is not as it was written: edited")
    elif last.seq == head.seq + 1 and last.prev == head.hash:
        verdict.notes.append(f"record {last.seq} was the last act of a process that was ended; the next takes it in")
    else:
        verdict.object(f"{trail.file}: what stands after record {head.seq} is not promgate's, or the head is old")
