"""`python -m tests.containers image|compose|fresh`: build, check, take everything away again; 0 when every check held.

`possible` tells whether that can be done here: 0, or 1 and the reason on stdout.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

from tests.containers import fresh, image, images, possible, stack
from tests.containers.engine import ROOT, Engine

if TYPE_CHECKING:
    from collections.abc import Callable

def main(words: list[str]) -> int:
    if words not in (["image"], ["compose"], ["fresh"], ["possible"]):
        print("usage: python -m tests.containers image|compose|fresh|possible", file=sys.stderr)
        return 2
    reason = possible.reason_against_fresh() if words == ["fresh"] else possible.reason_against()
    if words == ["possible"]:
        print(reason, end="")
        return 1 if reason else 0
    if not reason and words != ["fresh"] and (missing := possible.missing()):
        reason = f"not installed: {', '.join(missing)}"
    if reason:
        print(f"tests.containers: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is taken away on the way out
    engine = Engine(ROOT / "build" / "containers")
    if words == ["fresh"]:
        _timed("make demo on a fresh Debian", lambda: fresh.check(engine))
        return 0
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
