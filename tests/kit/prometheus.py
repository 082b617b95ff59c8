"""Debian's Prometheus in its two parts: the receiver that stores, and the agent that scrapes and sends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml

from tests.kit.fetch import answers_ok, fetch
from tests.kit.process import Process, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Receiver(Process):
    """Prometheus with its remote-write receiver under /prometheus. `kill` and `start` keep port and data.

    With `scrapes` (`host:port`, or a whole scrape config) it scrapes that each second, as job `scraped`. `config` is
    the rest of its configuration (`alerting`, `rule_files`). With a `web_config` it may want a login: `headers` are
    what this class itself shows it.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        scrapes: str | Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        web_config: Path | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.headers = headers
        self.port = port or free_port()
        self.base = f"http://127.0.0.1:{self.port}/prometheus"
        self.write_url = f"{self.base}/api/v1/write"
        config_file = directory / "receiver.yml"
        what = {"static_configs": [{"targets": [scrapes]}]} if isinstance(scrapes, str) else dict(scrapes or {})
        job = {"job_name": "scraped", "scrape_interval": "1s", **what}
        config_file.write_text(yaml.safe_dump({"scrape_configs": [job] if scrapes else [], **(config or {})}))
        command = [
            "prometheus",
            f"--config.file={config_file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--web.enable-remote-write-receiver",
            "--web.external-url=http://localhost/prometheus",
            "--web.enable-lifecycle",
        ]
        if web_config is not None:
            command.append(f"--web.config.file={web_config}")
        ready = lambda: answers_ok(f"{self.base}/-/ready", headers=self.headers)  # noqa: E731
        super().__init__(command, directory / "receiver.log", ready)

    def samples(self, name: str, window: str = "1h") -> list[tuple[float, float]]:
        """The raw samples (time, value) of all series called `name`, as stored, in the order of time."""
        series = self.query(f"{name}[{window}]")
        return sorted((float(at), float(value)) for one in series for at, value in one["values"])

    def value(self, expression: str) -> float | None:
        """What the expression is now; None while it has no series."""
        series = self.query(expression)
        return float(series[0]["value"][1]) if series else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        answer = fetch(f"{self.base}/api/v1/query?query={quote(expression)}", headers=self.headers)
        if answer.status != 200:
            raise ConnectionError(f"the receiver answered {answer.status} to a query: {answer.body[:200]!r}")
        result: list[dict[str, Any]] = json.loads(answer.body)["data"]["result"]
        return result


class Agent(Process):
    """Prometheus in agent mode: scrapes `target` each second and sends to `url`.

    With `credentials_file` the token is read from there on every request, with `oauth2` (a section as it writes them)
    it gets tokens itself; with `ca_file` that CA alone is trusted; `tls` is more of its `tls_config`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        target: str,
        url: str,
        credentials_file: Path | None = None,
        ca_file: Path | None = None,
        oauth2: Mapping[str, Any] | None = None,
        tls: Mapping[str, Any] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        remote: dict[str, object] = {"url": url, "queue_config": {"batch_send_deadline": "1s"}}
        if credentials_file:
            remote["authorization"] = {"credentials_file": str(credentials_file)}
        if oauth2:
            remote["oauth2"] = dict(oauth2)
        if ca_file:
            remote["tls_config"] = {"ca_file": str(ca_file), **(tls or {})}
        config = directory / "agent.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                    "scrape_configs": [{"job_name": "counter", "static_configs": [{"targets": [target]}]}],
                    "remote_write": [remote],
                }
            )
        )
        command = [
            "prometheus",
            "--enable-feature=agent",
            f"--config.file={config}",
            f"--storage.agent.path={directory / 'wal'}",
            "--storage.remote.flush-deadline=1s",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        super().__init__(
            command, directory / "agent.log", lambda: answers_ok(f"http://127.0.0.1:{self.port}/-/ready")
        )

    def metric(self, name: str) -> float:
        """The sum of its own metric `name` over all label sets (0 when it has none yet)."""
        text = fetch(f"http://127.0.0.1:{self.port}/metrics").body.decode()
        lines = (line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    @property
    def given_up(self) -> float:
        """Samples it gave up for good, after an answer it does not retry, or from its queue."""
        names = ("prometheus_remote_storage_samples_failed_total", "prometheus_remote_storage_samples_dropped_total")
        return sum(self.metric(name) for name in names)
