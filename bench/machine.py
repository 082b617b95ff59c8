"""Where and with what the figures were made: printed above them and kept in the JSON."""

from __future__ import annotations

import datetime as dt
import os
import platform
import ssl
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from bench.stage import run


def describe_machine() -> dict[str, str]:
    return {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpu": f"{_cpu_model()}, {os.cpu_count()} cores; servers on core 0, load and upstream on core 1",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "?"),
        "python": f"{Path(os.path.realpath(sys.executable))} {platform.python_version()}, {_build()}",
        "openssl": ssl.OPENSSL_VERSION,
        "uvloop": _package("uvloop"),
        "wrk": _wrk_version(),
        "cc": run("cc", "--version").splitlines()[0],
        "load average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _build() -> str:
    """An unoptimised interpreter is 1.4 to 2 times slower: the report has to say which one it was."""
    flags = str(sysconfig.get_config_var("PY_CORE_CFLAGS") or "").split()
    level = next((flag for flag in reversed(flags) if flag.startswith("-O")), "no -O flag")
    return f"{platform.python_compiler()}, {level}"


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed: asyncio's own loop"


def _wrk_version() -> str:
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)  # it exits with 1
    return (done.stdout + done.stderr).splitlines()[0].partition(" Copyright")[0]
