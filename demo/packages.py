"""Prometheus, Alertmanager and curl: from the distribution when they are missing and we may, else how to get them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from demo import screen
from demo.steps import Refused, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.state import State

#: Each is the name of a command and of its Debian package.
_NEEDED = ("prometheus", "prometheus-alertmanager")
#: The demo runs without, but the lines that it prints do not.
_WANTED = ("curl",)
_INSTALLER = Path("tests/kit/install.sh")

_BY_HAND = """\
not installed: {missing}. The demo may not install them: it is not root, and sudo would ask for a password.

Install them as root, then start again:
    apt-get update && apt-get install --no-install-recommends {missing}
(Debian then runs them as services too; the demo takes other ports and does not mind.)
"""
_ELSEWHERE = """\
not installed: {missing}. And there is no apt-get to install them with.

With `prometheus` (2.33 or newer) and Alertmanager as `prometheus-alertmanager` on the PATH, the demo runs here.
"""
_CONTAINER = """
Or in a container, which leaves this machine as it is (podman takes the same words):
    docker run --rm -it --name promgate-demo --network host -v "$PWD":/promgate -w /promgate debian:stable-slim \\
      sh -c 'apt-get update && apt-get install -y make python3-venv && make demo VENV=/opt/venv'
The lines it prints are then for the shell of `docker exec -it promgate-demo bash`."""


def prepare(state: State) -> None:
    """Leave the programs on the PATH. Refused, with the ways to get them, when that is not in our power."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    wanted = [name for name in _WANTED if shutil.which(name) is None]
    if not missing and not wanted:
        return
    root = _as_root()
    if root is None or shutil.which("apt-get") is None:
        if missing:
            raise Refused(_advice(missing))
        screen.say(f"  {wanted[0]} is not installed: the demo runs, but the lines to paste need it")
        return
    log = state.directory / "apt.log"
    names = missing + wanted
    with screen.step(f"apt installs {' '.join(names)}", log):
        # dpkg cut off half-way would be left for the user to repair: apt is told, and ends after dpkg's present run.
        try:
            run([_INSTALLER.resolve(), *names], log, root=root, spare="apt-get")
        except Refused as failed:
            raise Refused(f"{failed}\n{_CONTAINER}") from None
    still = [name for name in missing if shutil.which(name) is None]
    if still:
        raise Refused(f"apt has installed {', '.join(still)}, but no such command is on the PATH: {os.environ['PATH']}")


def _as_root() -> Sequence[str] | None:
    """What to put before a command to run it as root without a question; None when we may not."""
    if os.geteuid() == 0:
        return ()
    sudo = ("sudo", "-n", "--")
    allowed = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if allowed else None


def _advice(missing: Sequence[str]) -> str:
    names = " ".join(missing)
    way = _ELSEWHERE if shutil.which("apt-get") is None else _BY_HAND
    return way.format(missing=names) + _CONTAINER
