"""A User-Agent -> its family and version, short and harmless whatever a client wrote into it.

The family is what tells senders behind one address apart, so a version is never a part of it: `Prometheus/2.53.0`,
`vmagent-20240311-v1.99.0`, `OpenTelemetry Collector Contrib/0.96.0 (linux/amd64)`, `GrafanaAlloy/v1.5.0 (linux)`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: RFC 9110 10.1.5 has one word before the slash; collectors write several. A word begins with a letter, a version with
#: a digit, so that one way alone leads through any text.
_AGENT = re.compile(
    rb"([A-Za-z][A-Za-z0-9_.]*(?:[ -][A-Za-z][A-Za-z0-9_.]*)*)(?:[/ -]v?([0-9][A-Za-z0-9_.+~-]*))?(?:[/ ;,(].*)?",
    re.DOTALL,
)
_MAX_FAMILY, _MAX_VERSION = 48, 24
_MAX_BYTES = 512


class Agent(NamedTuple):
    """`str()` of it is what people are shown: `vmagent/1.126`, and nothing where none was sent."""

    family: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.family}/{self.version}" if self.version else self.family


NONE, OTHER = Agent(""), Agent("other")


def parse_agent(value: bytes) -> Agent:
    """`NONE` for an empty one, `OTHER` for what names no program."""
    if not value:
        return NONE
    match = _AGENT.fullmatch(value[:_MAX_BYTES])
    if match is None:
        return OTHER
    family, version = match[1].decode("ascii"), (match[2] or b"").decode("ascii")
    return Agent(family[:_MAX_FAMILY], version[:_MAX_VERSION])
