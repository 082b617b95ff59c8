"""A scrape's page: the samples of all rooms, written in Prometheus' text format by prometheus_client.

The only place that imports it: it costs 2.5 MB, which a configuration without telemetry does not pay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from proxy.observe.metrics import DURATION_BOUNDS_S, METRICS, Distribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric as Family

    from proxy.observe.metrics import Metric, Sample

#: The format that every Prometheus reads, whatever it asks for.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = [*(f"{bound:g}" for bound in DURATION_BOUNDS_S), "+Inf"]


class Page(Collector):
    """`samples` is called for each page."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples
        self._process = ProcessCollector(registry=None)

    def build(self) -> bytes:
        return generate_latest(self)

    def collect(self) -> Iterator[Family]:
        """The families that have samples, in the order of METRICS, then those of the process."""
        samples: dict[Metric, list[Sample]] = {}
        for sample in self._samples():
            samples.setdefault(sample.metric, []).append(sample)
        for metric in METRICS:
            if metric in samples:
                yield _family(metric, samples[metric])
        yield from self._process.collect()


def _family(metric: Metric, samples: list[Sample]) -> Family:
    family: HistogramMetricFamily | CounterMetricFamily | GaugeMetricFamily
    if metric.kind == "histogram":
        family = HistogramMetricFamily(metric.name, metric.doc, labels=metric.labels)
        for _, value, labels in samples:
            assert isinstance(value, Distribution)
            buckets = list(zip(_BOUNDS, map(float, value.cumulative), strict=True))
            family.add_metric(labels, buckets, value.total)
        return family
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.doc, labels=metric.labels)
    for _, value, labels in samples:
        assert not isinstance(value, Distribution)
        family.add_metric(labels, value)
    return family
