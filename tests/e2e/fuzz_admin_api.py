"""Plays the admin API of a real server by its own description: `make fuzz` runs it, with schemathesis.

What must hold, whatever is sent: no 500, no answer that the description does not know, nothing taken that it forbids.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import Promgate, write_route
from tests.kit.users import htpasswd, write_private

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method,ignored_auth"
)
#: A method that nobody knows gets 501 from the gate (RFC 9110 9.1), which is no failure of the API.
SETTINGS = '[phases.coverage]\nunexpected-methods = ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]\n'


def main(schemathesis: Path, examples: str = "50") -> int:
    """The exit code of `schemathesis run`."""
    with tempfile.TemporaryDirectory() as directory, HttpServer(lambda _: Reply(204)) as receiver:
        settings = Path(directory) / "schemathesis.toml"
        settings.write_text(SETTINGS)
        home = Path(directory) / "promgate"
        write_private(home / "users", htpasswd("root"))
        config = {
            "console": {},
            "htpasswd_file": "users",
            "roles": {"admin": ["basic:root"]},
            "routes": [write_route(receiver.base)],
        }
        with Promgate(home, config) as promgate:
            for name in ("agent", "grafana"):
                promgate.token("create", name)
            command = [
                str(schemathesis), f"--config-file={settings}", "run", str(ROOT / "docs" / "openapi.json"),
                f"--url={promgate.base}/-/api/v1",
                "--auth=root:root", f"--tls-verify={promgate.ca_file}", f"--checks={CHECKS}",
                f"--max-examples={examples}", "--rate-limit=15/s", "--workers=1",
            ]  # fmt: skip
            return subprocess.run(command, check=False, cwd=directory).returncode


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]).absolute(), *sys.argv[2:]))
