"""docs/metrics.md, made from the metrics: `python -m proxy.observe.docs > docs/metrics.md`.

Never imported by a running promgate. tests/observe/test_metrics.py holds the page and the metrics together.
"""

from __future__ import annotations

import sys

from proxy.gate.decision import Reason
from proxy.observe.metrics import DURATION_BOUNDS_S, METRICS, Metric
from proxy.tokens.token import TokenKind, TokenState

#: prometheus_client's reading of /proc/self; the same in every program that has it.
PROCESS = (
    Metric("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    Metric("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."),
    Metric("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
    Metric("process_open_fds", "gauge", "Number of open file descriptors."),
    Metric("process_max_fds", "gauge", "Maximum number of open file descriptors."),
)

_HEAD = """\
# Metrics

<!-- Made by `python -m proxy.observe.docs` from proxy/observe/metrics.py; change it there. -->

With a `telemetry` section in the configuration, `GET /metrics` on its listener gives these in Prometheus' text format.
What a configuration does not use (TLS, a token store) has no series.

Every label takes its values from the configuration or from a list in the code. No path, agent, user, token, method or
address of a client becomes a label, so the number of series does not depend on who asks for what.

| metric | kind | labels | |
|---|---|---|---|
"""
_PROCESS_HEAD = """
Of the process, as every Prometheus client library names them:

| metric | kind | labels | |
|---|---|---|---|
"""
_TAIL = """
## Labels

- `route`: the `name` of a route, or empty where no route was found.
- `reason`: {reasons}.
- `code`: the status that the client was told; 0 if it was told none, because it had gone or was cut.
- `upstream`: `host:port`, `unix:/path`, or `control` for the control plane. `state` of its
  connections: `active`, `idle`.
- `result` of a TLS handshake: `completed`, `failed`, `expired`, `refused`.
- `option`: where the configuration names a file of certificates, as `promgate check` writes it:
  `tls_server_config.cert_file`, `tls_server_config.client_ca_file`, `routes[0].upstream.tls_config.ca_file`.
- `issuer`: the `issuer` of an entry of `jwt` whose keys are fetched. `result` of a fetch: `ok`, `failed`; of an
  introspection: `active`, `refused`, `failed`.
- `provider`: the `name` of an entry of `oauth2`, or `password`. `result` of a login: `ok`, `refused`, `failed`.
- `kind` of tokens: {kinds}; `state`: {states}. `state` of senders is that of their token.
- `result` of a rotation: `done`, `failed`; `state` of one that is open: `running`, `halted`.
- `kind` of guessers: `address`, `user`.
- `le`: {bounds} seconds.

A scrape that comes within a quarter of a second of another is given the same page.

## Health

On the same listener, for `GET` and `HEAD`:

- `/-/healthy`: 200 as long as the process answers.
- `/-/ready`: 200 when the public listeners are open, the token store can be read, every upstream takes connections
  (checked every 5 s) and no drain has begun; else 503, with one line that names what is missing.

`/-/ready` on the public listener is the one for load balancers: it is 503 from SIGTERM on and else
never: `timeouts.drain_delay` gives them time to see it before the port closes. An upstream that is down
is no reason to send senders elsewhere, where the same upstream is down, too.
"""


def render() -> str:
    """The whole page."""
    tail = _TAIL.format(
        reasons=_words(Reason),
        kinds=_words(TokenKind),
        states=_words(TokenState),
        bounds=", ".join(f"{bound:g}" for bound in DURATION_BOUNDS_S),
    )
    return "".join([_HEAD, *map(_row, METRICS), _PROCESS_HEAD, *map(_row, PROCESS), tail])


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.doc} |\n"


def _words(words: type[Reason | TokenKind | TokenState]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    sys.stdout.write(render())
