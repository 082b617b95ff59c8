"""Real Prometheus and Alertmanager behind a prefix, in every style of `--web.external-url` and `--web.route-prefix`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.kit.fetch import Answer, answers_ok, bearer, fetch
from tests.kit.process import Process, free_port
from tests.kit.promgate import Promgate, write_route
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

#: What the program is started with, what it then answers below, and what the route takes off.
STYLES = {
    "kept": (["--web.external-url=https://127.0.0.1/PREFIX"], "/PREFIX", False),
    "stripped": (["--web.external-url=https://127.0.0.1/PREFIX", "--web.route-prefix=/"], "", True),
    "stripped, and the program knows nothing of it": ([], "", True),
}
every_style = pytest.mark.parametrize("style", STYLES)


class Program(Process):
    """A Debian program on a free port, told of its prefix as `style` says."""

    def __init__(self, directory: Path, command: str, config: str, storage: str, style: str, prefix: str) -> None:
        directory.mkdir()
        flags, below, self.strips = STYLES[style]
        self.port = free_port()
        (directory / "config.yml").write_text(config)
        ready = f"http://127.0.0.1:{self.port}{below.replace('PREFIX', prefix)}/-/ready"
        super().__init__(
            [
                command,
                f"--config.file={directory / 'config.yml'}",
                f"{storage}={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                *(flag.replace("PREFIX", prefix) for flag in flags),
            ],
            directory / "log",
            lambda: answers_ok(ready),
        )

    @property
    def upstream(self) -> str:
        return f"http://127.0.0.1:{self.port}"


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
    program = Program(tmp_path / "prometheus", "prometheus", "", "--storage.tsdb.path", style, "prometheus")
    program.command.append("--web.enable-remote-write-receiver")
    reads: dict[str, object] = {
        "name": "prometheus",
        "path": "/prometheus",
        "upstream": program.upstream,
        "auth": ["none"],
    }
    writes = write_route(program.upstream)
    if program.strips:
        reads["strip_prefix"], writes["strip_prefix"] = True, "/prometheus"
    with program, Promgate(tmp_path / "promgate", {"routes": [reads, writes]}) as promgate:
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
    config = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"
    program = Program(
        tmp_path / "alertmanager", "prometheus-alertmanager", config, "--storage.path", style, "alertmanager"
    )
    program.command.append("--cluster.listen-address=")
    route = {
        "name": "alertmanager",
        "path": "/alertmanager",
        "upstream": program.upstream,
        "auth": ["none"],
        "strip_prefix": program.strips,
    }
    with program, Promgate(tmp_path / "promgate", {"routes": [route]}) as promgate:
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
