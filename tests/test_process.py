"""What the process asks of its operating system, as any user: no core files, and nobody looks into its memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.kit.promgate import environment

#: PR_GET_DUMPABLE is 3 (<linux/prctl.h>). Then what promgate reads of itself: its figures, and the way to the socket
#: beside the store, which goes through /proc/self/fd.
LOOK = """
import ctypes, os, resource, sys
from prometheus_client.process_collector import ProcessCollector
from proxy.process import prepare_process
os.setuid(int(sys.argv[1]))
prepare_process()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
print(*(metric.name for metric in ProcessCollector(registry=None).collect() if metric.samples[0].value > 0))
here = os.open("/proc", os.O_PATH)
print(os.path.exists(f"/proc/self/fd/{here}/self"), open("/proc/self/mountinfo").read(1) != "")
"""
FIGURES = (
    "virtual_memory_bytes",
    "resident_memory_bytes",
    "start_time_seconds",
    "cpu_seconds",
    "open_fds",
    "max_fds",
)
NOBODY = 65534


@pytest.mark.parametrize(
    ("files", "room"),
    [(20, (1, 2)), (128, (64, 80)), (256, (192, 208)), (1024, (768, 896)), (20_000, (15_000, 17_500))],
)
def test_what_sockets_may_hold_leaves_files_for_the_rest(files: int, room: tuple[int, int]) -> None:
    code = "from proxy.process import room_for_sockets; print(*room_for_sockets())"
    command = ["prlimit", f"--nofile={files}:{files}", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.stdout.split() == [str(each) for each in room]


BURST = """
from proxy.process import give_back_memory, prepare_process
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
prepare_process()
bodies = [b"x" * (64 * 1024 + number) for number in range(128)]
kept = b"x" * 1025  # the end of the heap stays in use
full = resident()
del bodies
held = resident()
give_back_memory()
print(full - held < 2 ** 20, held - resident() > 6 * 2 ** 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_what_a_burst_took_is_kept_for_a_while_and_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.stdout, done.stderr) == ("True True\n", "")


@pytest.mark.parametrize("user", [os.geteuid(), NOBODY] if os.geteuid() == 0 else [os.geteuid()])
def test_no_core_no_debugger_and_its_own_figures(user: int) -> None:
    command = [sys.executable, "-c", LOOK, str(user)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "0 (0, 0)",
        " ".join(f"process_{name}" for name in FIGURES),
        "True True",
    ]
