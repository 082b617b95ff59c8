"""Who is refused is told an id, and with it an operator finds out why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.kit.fetch import bearer, fetch
from tests.kit.promgate import Promgate, run, write_route

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def test_a_refusal_can_be_asked_about(tmp_path: Path) -> None:
    with Promgate(tmp_path, {"routes": [write_route("http://127.0.0.1:9")]}) as promgate:
        secret = promgate.token("create", "agent", "--kind=reader")
        headers = {**bearer(secret), "X-Request-Id": "0123456789abcdef"}
        refused = fetch(promgate.write_url, method="POST", body=b"", headers=headers, ca_file=promgate.ca_file)
        assert refused.status == 403
        (request_id,) = refused.headers.get_all("X-Request-Id") or []
        assert request_id != "0123456789abcdef", "which the client chose"
        promgate.wait_request(lambda line: line["id"] == request_id, "the line")
        other = fetch(f"{promgate.base}/x", ca_file=promgate.ca_file).headers["X-Request-Id"]
        assert promgate.wait_request(lambda line: line["id"] == other, "the other line")["reason"] == "no_route"
        done = run("explain", f"--request-id={request_id}", f"--config.file={promgate.config_file}", "--output=json")
        said = json.loads(done.stdout)
        assert done.returncode == 1
        assert (said["recorded"]["identity"], said["recorded"]["reason"]) == ("token:agent", "not_allowed")
        assert (said["judged"]["reason"], said["note"]) == ("not_allowed", "both agree")
        assert secret not in done.stdout + done.stderr
        assert "X-Request-Id" not in fetch(f"{promgate.base}/-/healthy", ca_file=promgate.ca_file).headers
