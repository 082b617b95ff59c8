"""`make demo` on a Debian that was just installed: make, git and python3-venv are there, and nothing else it needs.

A root directory of its own, and processes that end with it; its network is this machine's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.containers import images
from tests.containers.engine import ROOT

if TYPE_CHECKING:
    from tests.containers.engine import Engine

_PACKAGES = "python3-venv,make,git,ca-certificates"
#: $1 is the root. What is mounted is gone with the namespace, and so is what runs.
_ENTER = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" sh -c 'cd /promgate && exec make demo ONCE=1'
"""


def check(engine: Engine) -> None:
    tar, _ = images.make_debian(engine, _PACKAGES)
    with tempfile.TemporaryDirectory(dir=engine.place) as directory:
        root = Path(directory)
        engine.must("tar", "-xpf", tar, "--directory", root)
        for name in ("resolv.conf", "hosts"):
            (root / "etc" / name).write_bytes(Path("/etc", name).read_bytes())
        (root / "promgate").mkdir()
        # What a clone has: every file of this tree that is not made by it.
        tree = "git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t"
        engine.must("sh", "-c", f'cd "$1" && {tree} "$2"', "sh", ROOT, root / "promgate")
        for program in ("prometheus", "prometheus-alertmanager", "curl"):
            assert not (root / "usr" / "bin" / program).exists(), program
        space = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        said = engine.must(*space, "sh", "-c", _ENTER, "sh", root, env=dict(images.index_settings()), timeout_s=600)
        for line in ("apt installs prometheus prometheus-alertmanager curl", "pip installs promgate's requirements"):
            assert line in said, said
            print(f"ok    {line}")
        (verdict,) = [line for line in said.splitlines() if line.startswith("Not one sample was lost in 3 rotations")]
        assert ", lost 0 " in verdict, said
        print(f"ok    {verdict}")
