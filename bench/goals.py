"""What promgate wants to reach: the bar that holds now, and the goal. The report sets the figures beside them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure. `figure` and `peer` name it as the report does; smaller is better, unless `at_least`."""

    title: str
    figure: str
    peer: str
    bar: float
    goal: float
    unit: str = "x"
    at_least: bool = False

    def verdict(self, seen: float) -> str:
        return "goal" if self.share(seen, self.goal) <= 1 else "bar" if self.share(seen, self.bar) <= 1 else "missed"

    def share(self, seen: float, of: float) -> float:
        """What part of `of` was used up: above 1 it is missed."""
        return of / max(seen, 1e-9) if self.at_least else seen / of

    def show(self, value: float) -> str:
        digits = {"x": 2, "s": 2, "times": 0}.get(self.unit, 1)
        return f"{value:,.{digits}f}" if self.unit == "x" else f"{value:,.{digits}f} {self.unit}"


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
    Goal("memory of the process (PSS) a minute after the runs", "after", "", 60, 45, "MiB"),
    Goal("basic auth by bcrypt, cost 10: requests/s", "basic", "nginx", 500, 1500, "times", at_least=True),
    Goal("p99 with a token beside two logins by bcrypt", "bearer", "nginx", 0.15, 0.05),
    Goal("p99 of known basic auth beside 32 who guess", "guessed", "prometheus", 1.0, 0.5),
    Goal("start to the first answer", "first-answer", "", 1.0, 0.5, "s"),
    Goal("CPU as a share of Prometheus' own, real agents", "fleet", "", 10, 5, "%"),
)
