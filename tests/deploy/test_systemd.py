"""The unit for systemd: what it runs is there, and systemd itself finds nothing wrong with it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config.schema import TimeoutsOf
from tests.kit.promgate import run

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "promgate.service"


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.mark.parametrize("key", ["ExecStart", "ExecStartPre"])
def test_what_it_runs_is_a_command_of_promgate(key: str, tmp_path: Path) -> None:
    (line,) = values(key)
    program, command, *options = shlex.split(line)
    assert (program, options) == ("/usr/local/bin/promgate", ["--config.file=/etc/promgate/promgate.yml"])
    done = run(command, f"--config.file={tmp_path / 'none.yml'}")
    assert (done.returncode, "none.yml" in done.stderr) == (1, True), "it takes these options"


def test_it_is_given_time_to_drain() -> None:
    (longest,) = values("TimeoutStopSec")
    assert float(longest.removesuffix("s")) > float(str(TimeoutsOf.options["drain"].default).removesuffix("s")) + 15


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here to judge it")
def test_systemd_takes_it_and_finds_it_shut(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/promgate", f"{Path(sys.executable).parent}/promgate"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])
    shut = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(shut, capture_output=True, check=False).returncode == 0
