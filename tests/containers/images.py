"""The images: a base made of Debian packages under the name that the Dockerfile says, and promgate on it.

Debian 12's Python is the 3.11 of `python:3.11-slim`, and Prometheus and Alertmanager are this machine's own, from their
Debian packages, under the names of the compose file. What this machine needs to reach an index (an authority, another
index) goes into this base and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.containers.engine import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containers.engine import Engine

PROMGATE = "localhost/promgate:latest"
_SUITE, _PACKAGES = "bookworm", "python3,python3-venv,ca-certificates"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Debian's users, as the official images have them: uid 65534, and a directory that it owns for the volume.
_STAND_IN = """
FROM {base}
ADD files.tar /
RUN ln -sf {program} /bin/{name}; mkdir -p /{name} /etc/{name} && chown 65534:65534 /{name}
USER 65534:65534
VOLUME /{name}
ENTRYPOINT ["/bin/{name}"]
"""


def base_name() -> str:
    """What the Dockerfile is FROM."""
    names = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    assert len(names) == 1, f"the Dockerfile has more than one base: {names}"
    return f"docker.io/library/{names.pop()}"


def make_base(engine: Engine) -> bool:
    """Import the base; whether it had to be made. It is kept as a tar file and made again when its recipe changes."""
    tar, is_new = make_debian(engine, _PACKAGES, "ln -s /usr/bin/python3 $1/usr/local/bin/python3")
    mark = f"promgate.recipe={tar.stem}"
    known = engine.run("podman", "image", "inspect", "--format={{.Labels}}", base_name())
    if is_new or mark.partition("=")[2] not in known.stdout:
        changes = [f"LABEL {mark}", *(f"ENV {name}={value}" for name, value in index_settings())]
        words = [f"--change={change}" for change in changes]
        engine.podman("import", "--quiet", *words, tar, base_name(), timeout_s=300)
    return is_new


def make_debian(engine: Engine, packages: str, *hooks: str) -> tuple[Path, bool]:
    """A tar file of a Debian with these packages and this machine's authorities; whether it had to be made."""
    bundle = _own_authorities()
    recipe = f"{_SUITE} {packages} {hooks}".encode() + (bundle.read_bytes() if bundle else b"")
    tar = engine.place / f"base-{hashlib.sha256(recipe).hexdigest()[:12]}.tar"
    if tar.exists():
        return tar, False
    all_hooks = [*hooks, *([f"upload {bundle} {_BUNDLE}"] if bundle else [])]
    words = [f"--include={packages}", *(f"--customize-hook={hook}" for hook in all_hooks)]
    unfinished = tar.with_suffix(".part.tar")
    engine.must("mmdebstrap", "--variant=minbase", *words, _SUITE, unfinished, timeout_s=600)
    unfinished.replace(tar)
    return tar, True


def make_promgate(engine: Engine) -> None:
    """The Dockerfile as it is, nothing pulled."""
    # Without a bridge: a build needs the network as this machine has it.
    flags = ["--isolation=chroot", "--network=host", "--pull=never", "--layers"]
    engine.must("buildah", "build", *flags, "--tag", PROMGATE, ROOT, timeout_s=600)


def make_stand_ins(engine: Engine) -> None:
    """Prometheus and Alertmanager of this machine, under the names of the compose file."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, package in (("prometheus", "prometheus"), ("alertmanager", "prometheus-alertmanager")):
        context = engine.place / name
        context.mkdir(exist_ok=True)
        program = f"/usr/bin/{package}"
        (context / "Dockerfile").write_text(_STAND_IN.format(base=base_name(), name=name, program=program))
        # Without its configuration, and without the units that would start it.
        listed = engine.must("dpkg", "-L", package).splitlines()
        files = [path for path in listed if path == program or path.startswith("/usr/share/prometheus/")]
        engine.must("tar", "--no-recursion", "-cPf", context / "files.tar", *files)
        flags = ["--isolation=chroot", "--network=host", "--pull=never", "--layers"]
        engine.must("buildah", "build", *flags, "--tag", services[name]["image"], context, timeout_s=300)


def _own_authorities() -> Path | None:
    """The bundle of authorities that this machine's pip trusts, where somebody has set one."""
    names = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    found = _pip_setting("cert") or next(filter(None, map(os.environ.get, names)), None)
    return Path(found) if found else None


def index_settings() -> Iterator[tuple[str, str]]:
    """Environment variables by which pip in a build reaches what pip here reaches."""
    if _own_authorities():
        yield from ((name, _BUNDLE) for name in ("SSL_CERT_FILE", "PIP_CERT"))
    index = _pip_setting("index-url") or os.environ.get("PIP_INDEX_URL")
    if index:
        yield "PIP_INDEX_URL", index


def _pip_setting(name: str) -> str | None:
    asked = [sys.executable, "-m", "pip", "config", "get", f"global.{name}"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None
