"""sslyze, a scanner of TLS, in an environment of its own: what of a listener departs from Mozilla's profile."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Scan(NamedTuple):
    """`departures` are the keys of Mozilla's intermediate profile that are not kept, with what sslyze says of each."""

    departures: list[str]
    results: dict[str, Any]


def scan(port: int, ca_file: Path, report: Path) -> Scan:
    """Scan the listener on this loopback port, whose certificate is for localhost; `report` is where sslyze writes."""
    program = Path(sys.prefix) / "scanner" / "bin" / "sslyze"
    if not program.exists():
        raise FileNotFoundError(f"{program}: `make scanner` makes the environment of the scanner")
    done = subprocess.run(
        [program, "--mozilla_config=intermediate", f"--certinfo_ca_file={ca_file}", f"--json_out={report}",
         f"localhost:{port}"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    _, begins, verdict = done.stdout.partition("COMPLIANCE AGAINST TLS CONFIGURATION")
    if not begins:
        raise RuntimeError(f"sslyze ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    departures = re.findall(r"^\s+\* (.+)", verdict, re.MULTILINE)
    if bool(departures) is not bool(done.returncode):
        raise RuntimeError(f"sslyze ended with {done.returncode} and says: {verdict}")
    (server,) = json.loads(report.read_text())["server_scan_results"]
    return Scan(departures, server["scan_result"])
