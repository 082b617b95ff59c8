"""OpenTelemetry's Python SDK with its remote-write exporter, as an application has it: in an environment of its own.

It sends what it has each half second and tries nothing twice. Its headers are the application's: this one reads its
token anew for each export, as docs/senders.md tells an application to do.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.kit.process import Process

SERIES = "kit_otel_total"

_APPLICATION = """
import pathlib, sys, time
from opentelemetry.exporter.prometheus_remote_write import PrometheusRemoteWriteMetricsExporter
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

url, token_file, ca_file, ready, name = sys.argv[1:]
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


class OtelApplication(Process):
    """Counts its own exports, from 1, in a series called `SERIES`."""

    def __init__(self, directory: Path, *, url: str, token_file: Path, ca_file: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        python = Path(sys.prefix) / "senders" / "bin" / "python"
        if not python.exists():
            raise FileNotFoundError(f"{python}: `make senders` makes the environment of the senders under test")
        ready = directory / "ready"
        command = [str(python), "-c", _APPLICATION, url, str(token_file), str(ca_file), str(ready), SERIES]
        super().__init__(command, directory / "otel.log", ready.exists)

    @property
    def exports(self) -> list[tuple[int, str]]:
        """(the integer, SUCCESS or FAILURE) of each export that has ended."""
        lines = [line.split() for line in self.log.splitlines()]
        return [(int(line[0]), line[1]) for line in lines if len(line) == 2 and line[0].isdigit()]
