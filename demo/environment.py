"""The virtual environment: made when it is missing or broken, filled with what promgate needs to run and no more."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from demo import screen
from demo.steps import Refused, run

if TYPE_CHECKING:
    from demo.state import State

_RUNTIME = Path("requirements/runtime.txt")
_PINS = Path(__file__).with_name("pins.py")


def prepare(venv: Path, state: State) -> None:
    """Leave `venv` with the pinned runtime packages. Refused with pip's last words when that cannot be done."""
    python = venv / "bin" / "python"
    # An install that was cut off may look whole: the mark tells.
    unfinished = venv / ".unfinished"
    if not unfinished.exists() and _succeeds(python, _PINS, _RUNTIME):
        return
    log = state.directory / "pip.log"
    with screen.step(f"pip installs promgate's requirements into {screen.short(venv)}", log):
        if unfinished.exists() or not _succeeds(python, "-m", "pip", "--version"):
            _make_empty(venv)
            unfinished.touch()
            run([sys.executable, "-m", "venv", venv], log)
        unfinished.touch()
        pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        run([*pip, "install", "--require-hashes", "-r", _RUNTIME], log)
        unfinished.unlink()


def _make_empty(venv: Path) -> None:
    if venv.exists() and any(venv.iterdir()):
        if not (venv / "pyvenv.cfg").exists() and not (venv / ".unfinished").exists():
            raise Refused(f"{venv} is not a virtual environment: name another one")
        shutil.rmtree(venv)
    venv.mkdir(parents=True, exist_ok=True)


def _succeeds(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
