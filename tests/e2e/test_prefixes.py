"""Real Prometheus and Alertmanager behind a prefix, in every style of `--web.external-url` and `--web.route-prefix`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.kit.fetch import Answer, bearer, fetch
from tests.kit.promgate import Promgate, write_route
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.styled import STYLES, styled_alertmanager, styled_prometheus
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

every_style = pytest.mark.parametrize("style", STYLES)


def follow(promgate: Promgate, path: str) -> tuple[Answer, list[str]]:
    """What a browser comes to from `path`, and the paths that it was sent to."""
    places: list[str] = []
    while True:
        answer = fetch(promgate.base + path, ca_file=promgate.ca_file)
        if answer.status not in {301, 302, 307, 308}:
            return answer, places
        path = urlsplit(answer.headers["Location"]).path
        places.append(path)
        assert len(places) < 5, places


@every_style
def test_prometheus(tmp_path: Path, style: str) -> None:
    program = styled_prometheus(tmp_path / "prometheus", style)
    writes = write_route(program.upstream)
    if program.strips:
        writes["strip_prefix"] = "/prometheus"
    with program, Promgate(tmp_path / "promgate", {"routes": [program.route(), writes]}) as promgate:
        for start in ("/prometheus", "/prometheus/", "/prometheus/graph"):
            page, places = follow(promgate, start)
            assert page.status == 200
            assert b"<html" in page.body.lower()
            assert all(place.startswith("/prometheus/") for place in places)
        assert follow(promgate, "/prometheus/")[1], "Prometheus redirects to its graph page"

        headers = HEADERS | bearer(promgate.token("create", "sender"))
        body = build_body("proof", 42.0)
        sent = fetch(promgate.write_url, method="POST", body=body, headers=headers, ca_file=promgate.ca_file)
        assert sent.status in {200, 204}

        def stored() -> bool:
            answer = fetch(f"{promgate.base}/prometheus/api/v1/query?query=proof", ca_file=promgate.ca_file)
            return bool(json.loads(answer.body)["data"]["result"])

        wait_for(stored, "the sample that was sent")


@every_style
def test_alertmanager(tmp_path: Path, style: str) -> None:
    program = styled_alertmanager(tmp_path / "alertmanager", style)
    with program, Promgate(tmp_path / "promgate", {"routes": [program.route()]}) as promgate:
        page, places = follow(promgate, "/alertmanager/")
        assert page.status == 200
        assert all(place.startswith("/alertmanager/") for place in places)
        status = fetch(f"{promgate.base}/alertmanager/api/v2/status", ca_file=promgate.ca_file)
        assert json.loads(status.body)["cluster"]["status"] == "disabled"
        alerts = json.dumps([{"labels": {"alertname": "proof"}}]).encode()
        url = f"{promgate.base}/alertmanager/api/v2/alerts"
        json_headers = {"Content-Type": "application/json"}
        sent = fetch(url, method="POST", body=alerts, headers=json_headers, ca_file=promgate.ca_file)
        assert sent.status == 200
        (alert,) = json.loads(fetch(url, ca_file=promgate.ca_file).body)
        assert alert["labels"] == {"alertname": "proof"}
