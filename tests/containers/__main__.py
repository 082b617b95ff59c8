"""`python -m tests.containers image|compose`: build, check, take everything away again; 0 when every check held."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from tests.containers import image, images, stack
from tests.containers.engine import ROOT, Engine

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRAMS = ("podman", "buildah", "runc", "conmon", "iptables", "mmdebstrap", "prometheus", "prometheus-alertmanager")


def main(words: list[str]) -> int:
    if words not in (["image"], ["compose"]):
        print("usage: python -m tests.containers image|compose", file=sys.stderr)
        return 2
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        why = f"not installed: {', '.join(missing)}" if missing else "bridge networks and mmdebstrap need root"
        print(f"tests.containers: {why}", file=sys.stderr)
        return 1
    engine = Engine(ROOT / "build" / "containers")
    _timed("base image", lambda: images.make_base(engine))
    _timed("promgate image", lambda: images.make_promgate(engine))
    if words == ["image"]:
        _timed("image checks", lambda: image.check(engine))
        return 0
    _timed("stand-ins for Prometheus and Alertmanager", lambda: images.make_stand_ins(engine))
    _timed("compose checks", lambda: stack.check(engine))
    return 0


def _timed(what: str, step: Callable[[], object]) -> None:
    began = time.monotonic()
    step()
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


sys.exit(main(sys.argv[1:]))
