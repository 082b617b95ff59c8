"""Whether this interpreter has every package at its pinned version: exit code 0 or 1. `pins.py REQUIREMENTS`

Run by the Python of a virtual environment, which is asked instead of a stamp: `make test` keeps the same one.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def unmet(requirements: str) -> list[str]:
    """The pins that are not met."""
    pins = re.findall(r"(?m)^([\w.-]+)==([^\s;]+)", requirements)
    return [f"{name}=={pin}" for name, pin in pins if _has(name) != pin]


def _has(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(bool(unmet(Path(sys.argv[1]).read_text())))
