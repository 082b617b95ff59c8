"""For any bytes: what reaches the upstream is what an independent reading of the RFCs admits, in order, to the byte.

`make test` plays some hundreds of streams; PROMGATE_FUZZ=100000 plays that many.
"""

from __future__ import annotations

import os
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.attacks.client import Client
from tests.attacks.grammar import cut_up, streams
from tests.attacks.in_process import InProcess
from tests.attacks.play import probe
from tests.attacks.reference import read_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.recorder import Request
    from tests.attacks.relay import Target

EXAMPLES = int(os.environ.get("PROMGATE_FUZZ", "1500"))
SOCKET_EXAMPLES = max(100, EXAMPLES // 20)
CUTS = st.none() | st.lists(st.integers(1, 400), max_size=6)
QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def in_process() -> Iterator[InProcess]:
    relay = InProcess()
    yield relay
    relay.close()


def test_in_process(in_process: InProcess) -> None:
    tally = Counter[str]()

    @settings(QUIET, max_examples=EXAMPLES)
    @given(streams(), CUTS)
    def agrees(data: bytes, cuts: list[int] | None) -> None:
        expected = read_stream(data)
        tally[expected.end] += 1
        tally["admitted"] += expected.end in {"open", "closed"} and bool(expected.up)
        seen, answers = in_process.play(cut_up(data, cuts))
        assert expected.agrees(seen), f"upstream saw {seen}, not {expected.up}, for {data!r}"
        assert not answers.startswith(b"HTTP/1.1 500")

    agrees()
    # A fuzzer that is refused at the door tests the door alone.
    assert tally["admitted"] >= 0.3 * EXAMPLES, tally
    assert tally["refused"] >= 0.1 * EXAMPLES, tally


def test_over_sockets(open_target: Target) -> None:
    tally = Counter[str]()

    @settings(QUIET, max_examples=SOCKET_EXAMPLES)
    @given(streams(), CUTS)
    def agrees(data: bytes, cuts: list[int] | None) -> None:
        expected = read_stream(data)
        tally["admitted"] += expected.end in {"open", "closed"} and bool(expected.up)
        seen = send_to(open_target, cut_up(data, cuts), len(expected.up))
        assert expected.agrees(seen), f"upstream saw {seen}, not {expected.up}, for {data!r}"

    agrees()
    assert tally["admitted"] >= 0.3 * SOCKET_EXAMPLES, tally
    complaints = open_target.relay.complaints()
    assert not complaints, complaints


def send_to(target: Target, pieces: list[bytes], expected: int) -> list[bytes]:
    """The whole requests that the upstream saw of one connection that sent `pieces`."""
    recorder = target.recorder
    recorder.begin()

    def seen() -> list[Request]:
        return recorder.requests()

    with Client(target.relay.address) as client:
        client.send(tuple(pieces))
        deadline = monotonic() + 2.0
        while len(seen()) < expected and not client.ended and monotonic() < deadline:
            client.receive_some(0.02)
        probe(target.relay.address)
    assert not recorder.malformed(), recorder.malformed()
    return [request.raw for request in seen()]
