"""What is overdue, stuck or refused is seen: in the metrics and the log, and what is stuck in `token status` too."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.kit.fetch import fetch
from tests.kit.process import free_port
from tests.kit.promgate import Promgate, run, write_route
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

HOUR = 3600.0
DAY = 24 * HOUR
PERIOD = 30 * DAY


class Site:
    """Names `stuck`, whose target refuses while a file `broken` is there, and `a` and `b`, with files of theirs."""

    def __init__(self, directory: Path) -> None:
        self.broken = directory / "broken"
        self.telemetry = free_port()
        refusing = ["sh", "-c", f"cat > /dev/null; if test -e {self.broken}; then echo sealed >&2; exit 1; fi"]
        files = {name: {"file": str(directory / f"{name}.token")} for name in ("a", "b")}
        config = {
            "tokens": {"rotation_period": "30d", "deliver": {"stuck": {"command": refusing}, **files}},
            "telemetry": {"listen": f"127.0.0.1:{self.telemetry}"},
            "routes": [write_route("http://127.0.0.1:1")],
        }
        self.promgate = Promgate(directory / "promgate", config)

    def create(self, name: str, age_s: float) -> None:
        """A name whose token became current so long ago."""
        self.promgate.token("create", name)
        with closing(sqlite3.connect(self.promgate.config_file.with_name("promgate.db"))) as db, db:
            shift = "minted_at = minted_at - ?1, current_from = current_from - ?1"
            db.execute(f"UPDATE token SET {shift} WHERE name = ?2", [age_s, name])
            shift = "started_at = started_at - ?1, current_at = current_at - ?1"
            db.execute(f"UPDATE rotation SET {shift} WHERE name = ?2", [age_s, name])

    def metrics(self) -> dict[str, float]:
        """Those of rotations."""
        page = fetch(f"http://127.0.0.1:{self.telemetry}/metrics").body.decode()
        found = re.findall(r"^promgate_rotations_(\S+) (\S+)$", page, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def wait(self, expected: dict[str, float]) -> None:
        names = {"done": 'total{result="done"}', "failed": 'total{result="failed"}', "overdue": "overdue",
                 "running": 'open{state="running"}', "halted": 'open{state="halted"}'}  # fmt: skip
        wanted = {names[name]: expected.get(name, 0.0) for name in names}
        wait_for(lambda: self.metrics() == wanted, f"{wanted}, after {self.metrics()}")


def test_one_that_is_due_is_done_and_counted(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.create("a", PERIOD + 60)
    site.create("b", PERIOD - HOUR)
    with site.promgate:
        site.wait({"done": 1})
        assert "a: token" in site.promgate.log


def test_what_is_overdue_and_what_is_stuck_is_seen_until_it_is_mended(tmp_path: Path) -> None:
    """The one that has waited longest goes first, and halts; the others may not begin in the same minute."""
    site = Site(tmp_path)
    site.create("stuck", PERIOD + 3 * HOUR)
    site.create("a", PERIOD + 2 * HOUR)
    site.create("b", PERIOD + HOUR / 2)
    site.broken.touch()
    with site.promgate:
        site.wait({"failed": 1, "halted": 1, "overdue": 1})
        assert site.promgate.log.count("a: its rotation was due at ") == 1
        (said,) = [line for line in site.promgate.log.splitlines() if "sealed" in line]
        assert "level=error" in said
        (rotation,) = re.findall(r"--id (\w+)", said)
        status = site.promgate.token("status", "stuck")
        assert "halted" in status
        assert "sealed" in status
        # Mended, taken up, and the others at once.
        site.broken.unlink()
        site.promgate.token("rotate", "stuck", f"--id={rotation}")
        site.wait({"failed": 1, "overdue": 1})
        done = run("token", "rotate", "--due", "--all", f"--config.file={site.promgate.config_file}")
        assert done.returncode == 0, done.stderr
        site.wait({"failed": 1})
