"""What promgate wants to reach: the bar that holds now, and the goal. The report sets the figures beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure. `figure` and `peer` name it as the report does; smaller is better."""

    title: str
    figure: str
    peer: str
    bar: float
    goal: float
    unit: str = "x"

    def verdict(self, seen: float) -> str:
        return "goal" if seen <= self.goal else "bar" if seen <= self.bar else "over"


GOALS = (
    Goal("CPU per request, remote write 64 KB", "post64", "nginx", 1.15, 0.95),
    Goal("CPU per request, remote write 64 KB", "post64", "caddy", 0.45, 0.35),
    Goal("CPU per request, POST 8 KB", "post8", "nginx", 1.6, 1.2),
    Goal("CPU per request, POST 8 KB", "post8", "caddy", 0.33, 0.22),
    Goal("CPU per request, GET 1 KB", "get1k", "nginx", 1.6, 1.15),
    Goal("CPU per request, GET 1 KB", "get1k", "haproxy", 1.5, 1.05),
    Goal("CPU per request, GET 1 KB", "get1k", "caddy", 0.40, 0.25),
    Goal("CPU per GB, 10 MB answers", "answer10m", "nginx", 0.8, 0.6),
    Goal("CPU per GB, 10 MB answers", "answer10m", "nginx-128k", 1.3, 1.0),
    Goal("handshake + GET", "handshake", "nginx", 1.3, 1.1),
    Goal("memory per idle TLS connection after use", "idle", "", 30, 16, "KiB"),
    Goal("memory of the process (PSS) at start", "start", "", 45, 35, "MiB"),
    Goal("memory of the process (PSS) after the runs", "after", "", 60, 45, "MiB"),
    Goal("CPU as a share of Prometheus' own, real agents", "fleet", "", 10, 5, "%"),
)
