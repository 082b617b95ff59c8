"""`python -m tests.e2e.addresses COUNT`: MiB that a process grows by when so many addresses ask, guess, are told no."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from proxy.gate.credentials import ShownPassword, ShownToken
from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Need
from proxy.gate.edits import IDENTITY_FIELDS
from proxy.gate.memory import Memory
from proxy.gate.snapshot import RateLimit, Route, Rule, Snapshot, Upstream, Way
from proxy.wire.head import RequestHead, RequestMemo, admit_request

UPSTREAM = Upstream("127.0.0.1", 9090)
LIMIT = RateLimit(rate=1, interval_s=1.0, burst=5, by_identity=False)
ROUTES = (
    Route("open", "/open", UPSTREAM, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),), rate_limit=LIMIT),
    Route("people", "/people", UPSTREAM, ways=frozenset({Way.BASIC, Way.BEARER}), rules=(Rule("viewer"),)),
)
EACH_S = 1e-4


def pss_mib() -> float:
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return int(next(line for line in rollup if line.startswith("Pss:")).split()[1]) / 1024


def head(path: str) -> RequestHead:
    data = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    return admit_request(data, len(data) - 4, RequestMemo(IDENTITY_FIELDS))


def main() -> None:
    gate = Gate(Snapshot(ROUTES), Memory(bytes(32)))
    open_to_all, people = head("/open/x"), head("/people/x")
    gc.collect()
    before = pss_mib()
    for number in range(int(sys.argv[1])):
        ip, at = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", number * EACH_S
        assert isinstance(gate.decide(open_to_all, None, ip, at, at), Forward)
        guess = ShownPassword(f"user-{number}", b"guess")
        need = gate.decide(people, guess, ip, at, at)
        assert isinstance(need, Need)
        assert isinstance(gate.decide(people, guess, ip, at, at, {need.question: False}), Deny)
        token = ShownToken(number.to_bytes(32, "big"), minted=False)
        assert isinstance(gate.decide(people, token, ip, at, at), Deny)
    print(f"{pss_mib() - before:.1f}")


if __name__ == "__main__":
    main()
