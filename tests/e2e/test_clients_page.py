"""docs/clients.md: what it tells people to write is taken by the programs that they write it for."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.kit.promgate import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def _block(beginning: str) -> str:
    """The YAML block of the page that begins so."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(beginning))
    return str(found)


def test_prometheus_takes_its_part(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(_block("remote_write:"))
    command = ["promtool", "check", "config", "--syntax-only", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_promgate_takes_its_part(tmp_path: Path) -> None:
    config = tmp_path / "promgate.yml"
    users = "basic_auth_users: {notifier: $2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi}\n"
    config.write_text(f"{users}tokens: {{store: 'sqlite:///promgate.db'}}\n{_block('roles:')}")
    done = run("check", f"--config.file={config}")
    assert done.returncode == 0, done.stderr
    assert "ok, 2 routes" in done.stdout
