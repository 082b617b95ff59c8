"""What the process asks of its operating system before it serves: room for connections, a shut memory, calm malloc."""

from __future__ import annotations

import ctypes
import resource

# <linux/prctl.h>
_PR_SET_DUMPABLE = 4
# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_TRIM_BYTES = 16 * 1024 * 1024
_MMAP_BYTES = 1024 * 1024
_KEPT_BYTES = 1024 * 1024


#: Kept from clients: for upstreams, and for our own. At rest we have some 30; store and providers are asked by more.
_LEAST_RESERVE = 64
_LEAST_OWN = 48
_PLENTY = 1_000_000


def room_for_sockets() -> tuple[int, int]:
    """How many sockets clients may hold, and how many they and the connections to upstreams together.

    A quarter of the open files, 64 at least, is not the clients'; half of that, 48 at least, not the upstreams' either.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _PLENTY, 2 * _PLENTY
    reserve = max(_LEAST_RESERVE, files // 4)
    return max(1, files - reserve), max(2, files - max(_LEAST_OWN, reserve // 2))


def prepare_process() -> None:
    """Raise the soft limit of open files to the hard one, show nobody our memory (it holds secrets), tune malloc."""
    shut_memory()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _keep_freed_buffers()


def shut_memory() -> None:
    """For every process that may hold a secret: no core file, and no debugger but root's.

    A limit of 0 does not stop a core that is piped to a program, as to systemd-coredump (core(5)). A process that is
    not dumpable has none at all, and its own user can neither trace it nor read its mem or environ in /proc (prctl(2)).
    What it reads there of itself, it still may (ptrace(2): the same thread group).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _keep_freed_buffers() -> None:
    """Keep up to 16 MiB of freed heap instead of giving it back at once.

    With glibc's defaults (128 KiB) each body of some ten KiB is a brk() up, page faults for every page of it, and a
    brk() down: 13 us of the 40 us of system time of a 64 KiB write. Other C libraries have no mallopt, or ignore it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def give_back_memory() -> None:
    """Give back what a burst took and left: 10 MiB after a run of 64 KiB bodies.

    It takes 0.4 ms, some 5 ms where there is much. With the thresholds as they are, glibc by itself would not.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(_KEPT_BYTES)
