"""podman with settings, storage and networks of its own, below one directory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# runc with limits that need no more than this process has; no systemd to talk to; nothing is ever pulled.
_CONTAINERS = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
cgroups = "enabled"
pull_policy = "never"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
tmp_dir = "{place}/tmp"
volume_path = "{place}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{place}/networks"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{place}/graph"
runroot = "{place}/run"
"""


class Engine:
    """`podman` and what speaks through it, in `place` (absolute)."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        (place / "networks").mkdir(exist_ok=True)
        for name, text in (("containers.conf", _CONTAINERS), ("storage.conf", _STORAGE)):
            (place / name).write_text(text.format(place=place))
        self.environment = {
            **os.environ,
            "CONTAINERS_CONF": str(place / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
            # The OCI format has no HEALTHCHECK.
            "BUILDAH_FORMAT": "docker",
        }

    def run(
        self, *words: str | Path, env: dict[str, str] | None = None, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in this engine's settings, whatever it ends with."""
        return subprocess.run(
            list(map(str, words)),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=ROOT,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def must(self, *words: str | Path, env: dict[str, str] | None = None, timeout_s: float = 120.0) -> str:
        """What a program printed; RuntimeError with its last words when it failed."""
        done = self.run(*words, env=env, timeout_s=timeout_s)
        if done.returncode != 0:
            last = f"{done.stdout}\n{done.stderr}"[-3000:]
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{last}")
        return done.stdout.strip()

    def podman(self, *words: str | Path, timeout_s: float = 120.0) -> str:
        return self.must("podman", *words, timeout_s=timeout_s)

    def has_image(self, name: str) -> bool:
        return self.run("podman", "image", "exists", name).returncode == 0

    def inspect(self, *words: str) -> Any:
        """The facts of one thing: `inspect("container", id)`."""
        kind, *rest = words
        return json.loads(self.podman(kind, "inspect", *rest))[0]
