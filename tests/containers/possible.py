"""Whether this machine can run the container tests at all. Nothing is installed, made or left behind to find out."""

from __future__ import annotations

import os
import shutil
import subprocess

PROGRAMS = ("podman", "buildah", "runc", "conmon", "iptables", "mmdebstrap", "prometheus", "prometheus-alertmanager")


def missing() -> list[str]:
    """The programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def reason_against() -> str:
    """Why they cannot run here, or nothing. What is missing but can be installed is no reason."""
    if os.geteuid() != 0:
        return "bridge networks and mmdebstrap need root"
    if (lacking := missing()) and shutil.which("apt-get") is None:
        return f"not installed, and no apt-get: {', '.join(lacking)}"
    if not os.access("/sys/fs/cgroup", os.W_OK):
        return "/sys/fs/cgroup cannot be written: no container can be given limits"
    if not _can("unshare", "--mount", "--net", "--pid", "--fork", "true"):
        return "no namespaces can be made: is this a container without the right to?"
    if "iptables" not in lacking and not _can("unshare", "--net", "iptables", "--table=nat", "--list-rules"):
        return "iptables does not work: no bridge network can be made"
    return ""


def reason_against_fresh() -> str:
    """The same for a root directory of its own, which needs less."""
    if os.geteuid() != 0:
        return "mmdebstrap and chroot need root"
    if shutil.which("mmdebstrap") is None:
        return "not installed: mmdebstrap"
    return "" if _can("unshare", "--mount", "--pid", "--fork", "true") else "no namespaces can be made"


def _can(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0
