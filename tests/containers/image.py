"""What the image promises by itself: nobody, nothing to build with, nothing to write but the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.containers import images

if TYPE_CHECKING:
    from tests.containers.engine import Engine

_CONFINED = ("run", "--rm", "--network=none", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
#: Prints what should not be there: modules that were not compiled, installers, files of the image one may write.
_LOOK = """
import importlib.util, os, pathlib, shutil
place = pathlib.Path("/opt/promgate")
for source in place.rglob("*.py"):
    if not os.path.exists(importlib.util.cache_from_source(source)):
        print("not compiled:", source)
print(*("there: " + name for name in ("gcc", "cc", "make", "git") if shutil.which(name)), sep="\\n", end="")
print(*("there: " + name for name in ("pip", "setuptools") if importlib.util.find_spec(name)), sep="\\n", end="")
for path in (place, *place.rglob("*")):
    if not path.is_symlink() and os.access(path, os.W_OK):
        print("writable:", path)
"""


def check(engine: Engine) -> None:
    facts = engine.inspect("image", images.PROMGATE)
    config = facts["Config"]
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["promgate"]
    assert list(config["Volumes"]) == ["/var/lib/promgate"]
    assert facts["Healthcheck"]["Test"][0] == "CMD"
    print(f"ok    {facts['Size'] / 1e6:.0f} MB, {(facts['Size'] - _base_size(engine)) / 1e6:.0f} of them promgate's")

    version = engine.podman(*_CONFINED, images.PROMGATE, "--version")
    assert version.startswith("promgate "), version
    print(f"ok    {version}, with a read-only root and no capability")

    found = engine.podman(*_CONFINED, "--entrypoint=/opt/promgate/bin/python", images.PROMGATE, "-c", _LOOK)
    assert found == "", found
    print("ok    every module compiled, no compiler, no pip, nothing writable")

    python, *probe = facts["Healthcheck"]["Test"][1:]
    alone = engine.run("podman", *_CONFINED, f"--entrypoint={python}", images.PROMGATE, *probe)
    assert alone.returncode == 1, alone
    assert "Connection refused" in alone.stderr, alone
    print("ok    HEALTHCHECK fails where nothing listens")


def _base_size(engine: Engine) -> int:
    return int(engine.inspect("image", images.base_name())["Size"])
