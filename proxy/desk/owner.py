"""The name of a process in a lease, and whether the process of a name has ended for sure.

Known of processes of this machine and this PID namespace alone: of any other, the end of its lease must be awaited. The
start time tells a process from a later one with the same number (proc(5), field 22 of stat).
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
    machine, _, rest = owner.partition("#")[0].rpartition("/")[0].rpartition("/")
    started = owner.partition("#")[0].rpartition("/")[2]
    return machine == _machine() and rest.isdecimal() and _started(int(rest)) != started


def _machine() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink()).partition("[")[2].rstrip("]")
    except OSError:
        namespace = "?"
    return f"{socket.gethostname()}/{namespace}"


def _started(pid: int) -> str:
    """Ticks after boot; empty if there is no such process. The name in field 2 may hold blanks and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
