"""Applications that write by themselves: OpenTelemetry's Python SDK with its remote-write exporter, and npm's
`prometheus-remote-write`, each in an environment of its own.

They send what they have each half second and try nothing twice. Their headers are the application's: these read their
token anew for each export, as docs/senders.md tells an application to do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kit.process import Process
from tests.kit.providers import HERE, MODULES

if TYPE_CHECKING:
    from collections.abc import Mapping

SERIES = "kit_application_total"

_OTEL = """
import pathlib, sys, time
from opentelemetry.exporter.prometheus_remote_write import PrometheusRemoteWriteMetricsExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

ca_file, url, token_file, ready, name = sys.argv[1:]
served = 0

class Exporter(PrometheusRemoteWriteMetricsExporter):
    def export(self, data, *args, **how):
        self.headers = {"Authorization": "Bearer " + pathlib.Path(token_file).read_text().strip()}
        result = super().export(data, *args, **how)
        print(served, result.name, flush=True)
        pathlib.Path(ready).touch()
        return result

def observe(_):
    global served
    served += 1
    yield Observation(served)

exporter = Exporter(endpoint=url, tls_config={"ca_file": ca_file})
provider = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=500)])
provider.get_meter("kit").create_observable_counter(name, [observe])
while True:
    time.sleep(3600)
"""


class Application(Process):
    """Counts its own exports, from 1, in a series called `SERIES`."""

    def __init__(
        self, program: list[str], directory: Path, *, url: str, token_file: Path, env: Mapping[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        ready = directory / "ready"
        command = [*program, url, str(token_file), str(ready), SERIES]
        super().__init__(command, directory / "application.log", ready.exists, env={**os.environ, **(env or {})})

    @property
    def exports(self) -> list[tuple[int, str]]:
        """(the integer, SUCCESS or FAILURE) of each export that has ended."""
        lines = [line.split() for line in self.log.splitlines()]
        return [(int(line[0]), line[1]) for line in lines if len(line) == 2 and line[0].isdigit()]


def otel_application(directory: Path, *, url: str, token_file: Path, ca_file: Path) -> Application:
    python = Path(sys.prefix) / "senders" / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python}: `make senders` makes the environment of the senders under test")
    return Application([str(python), "-c", _OTEL, str(ca_file)], directory, url=url, token_file=token_file)


def npm_application(directory: Path, *, url: str, token_file: Path, ca_file: Path) -> Application:
    env = {"PROVIDER_MODULES": str(MODULES), "NODE_EXTRA_CA_CERTS": str(ca_file)}
    return Application(["node", str(HERE / "sender.mjs")], directory, url=url, token_file=token_file, env=env)
