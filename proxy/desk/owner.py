"""The name of a process in a lease, and whether the process of a name has ended for sure.

Known of processes of this machine and this PID namespace alone: of any other, the end of its lease must be awaited; and
so must that of one of which /proc tells nothing, as it does of other users' (proc(5), hidepid), or where it is not
mounted. The start time tells a process from a later one with the same number (proc(5), field 22 of stat).
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def name_of_this_process() -> str:
    """HOST/NAMESPACE/PID/START."""
    return f"{_machine()}/{os.getpid()}/{_started(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Whether the process `owner` (a name as above, with anything after a '#') has ended for sure."""
    place, _, started = owner.partition("#")[0].rpartition("/")
    machine, _, number = place.rpartition("/")
    if machine != _machine() or not number.isdecimal():
        return False
    pid = int(number)
    if not _exists(pid):
        return True
    now = _started(pid)
    return bool(now and started) and now != started


def _exists(pid: int) -> bool:
    """Whether a process has this number, of whatever user (kill(2): EPERM)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _machine() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink()).partition("[")[2].rstrip("]")
    except OSError:
        namespace = "?"
    return f"{socket.gethostname()}/{namespace}"


def _started(pid: int) -> str:
    """Ticks after boot; empty if that cannot be read. The name in field 2 may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
