"""What needs a clock or several acts: 100-continue, lingering, retries, deadlines, an upstream that is away."""

from __future__ import annotations

import contextlib
import socket
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.attacks.case import Act, parse_steps
from tests.attacks.client import Client
from tests.attacks.play import probe, probe_on
from tests.attacks.recorder import Recorder
from tests.attacks.relay import BODY_S, HEADER_S, LINGER_S, RESPONSE_S, Relay, Target, route, write_route
from tests.kit.process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.case import Steps

SWEEP_S = 5.0  # deadlines are kept to within a tenth of this, and the machine may be busy
CLOSE: Steps = (Act.CLOSE,)
SLOW_BODY = b"x" * 100_000


def post(path: str, *fields: str, body: bytes = b"hello") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: promgate.test", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: promgate.test\r\n\r\n".encode()


def seconds_until_closed(client: Client) -> float:
    """How long the relay takes to end a connection on which nothing is sent or awaited any more."""
    began = monotonic()
    while client.receive(deadline_s=20.0):
        pass
    return monotonic() - began


@pytest.fixture(autouse=True)
def no_defect(open_target: Target) -> Iterator[None]:
    open_target.recorder.begin()
    yield
    open_target.recorder.let_go()
    probe(open_target.relay.address)
    complaints = open_target.relay.complaints()
    assert not complaints, complaints


@pytest.fixture
def client(open_target: Target) -> Iterator[Client]:
    with Client(open_target.relay.address) as client:
        yield client


# H34


def test_one_request_at_a_time_per_connection(open_target: Target, client: Client) -> None:
    recorder = open_target.recorder
    recorder.begin((parse_steps("{hold}HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n1"),))
    client.send((get("/1") + get("/2"),))
    assert recorder.wait_for(lambda: len(recorder.requests()) == 1)
    probe(open_target.relay.address)
    assert [request.target for request in recorder.requests()] == [b"/1"]
    recorder.let_go()
    assert [client.read_answer().body for _ in range(2)] == [b"1", b"ok\n"]
    assert [request.target for request in recorder.requests()] == [b"/1", b"/2"]


# H36: 100 comes after the decision, and asks for the body


def test_100_comes_once_the_request_is_let_in(open_target: Target, client: Client) -> None:
    head = post("/write", f"Authorization: Bearer {open_target.token}", "Expect: 100-continue")[:-5]
    client.send((head,))
    assert client.read_answer().status == 100
    client.send((b"hello",))
    assert client.read_answer().status == 200
    (request,) = open_target.recorder.requests()
    assert request.raw.endswith(b"\r\n\r\nhello")
    probe_on(client)


@pytest.mark.parametrize(
    ("path", "length", "status"), [("/write", 5, 401), ("/private/x", 5, 401), ("/x", 99_999_999, 413)]
)
def test_no_100_for_a_request_that_is_refused(
    path: str, length: int, status: int, open_target: Target, client: Client
) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: promgate.test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    client.send((head.encode(),))
    assert client.read_answer().status == status
    assert open_target.recorder.requests() == []


# H40


def test_an_answer_is_not_lost_while_the_body_is_still_coming(client: Client) -> None:
    client.send((post("/private/x", body=SLOW_BODY)[:-90_000],))
    answer = client.read_answer()
    client.send((SLOW_BODY[:90_000], get("/leak")))
    assert (answer.status, answer.closes) == (401, True)
    assert client.read_to_end() == b""


@pytest.mark.parametrize("refused", [b"GET /x HTTP/1.1\r\n\r\n", post("/private/x", body=SLOW_BODY)[:-1]])
def test_lingering_ends_by_itself(refused: bytes, client: Client) -> None:
    client.send((refused,))
    assert client.read_answer().closes
    assert seconds_until_closed(client) < LINGER_S + SWEEP_S


def test_lingering_is_not_prolonged_by_a_trickle(client: Client) -> None:
    client.send((b"GET /x HTTP/1.1\r\n\r\n",))
    assert client.read_answer().status == 400
    began = monotonic()
    while not client.ended:
        client.send((get("/leak"),))
        client.receive_some(0.05)
        assert monotonic() - began < LINGER_S + SWEEP_S


# U6


def warm(target: Target) -> None:
    """Leaves an idle connection to the upstream."""
    probe(target.relay.address)


def send_with_answers(target: Target, request: bytes, *answers: Steps) -> tuple[int, list[bytes]]:
    """(status, what the upstream saw) when the upstream plays `answers` to whatever comes."""
    target.recorder.begin(answers)
    with Client(target.relay.address) as client:
        client.send((request,))
        answer = client.read_answer()
    assert answer is not None
    return answer.status, [seen.raw for seen in target.recorder.requests()]


def test_get_is_sent_again_once(open_target: Target) -> None:
    warm(open_target)
    status, seen = send_with_answers(open_target, get("/x"), CLOSE)
    assert (status, len(seen)) == (200, 2)
    assert seen[0] == seen[1]


def test_post_is_not_sent_again(open_target: Target) -> None:
    warm(open_target)
    status, seen = send_with_answers(open_target, post("/x"), CLOSE)
    assert (status, len(seen)) == (502, 1)


def test_post_without_a_body_is_not_sent_again(open_target: Target) -> None:
    warm(open_target)
    status, seen = send_with_answers(open_target, post("/x", body=b""), CLOSE)
    assert (status, len(seen)) == (502, 1)


def test_a_write_is_sent_again_over_a_fresh_connection(open_target: Target) -> None:
    warm(open_target)
    request = post("/write", f"Authorization: Bearer {open_target.token}")
    status, seen = send_with_answers(open_target, request, CLOSE)
    assert (status, len(seen)) == (200, 2)  # an exact duplicate is harmless there
    assert seen[0] == seen[1]


def test_a_large_write_is_not_kept_to_be_sent_again(open_target: Target) -> None:
    warm(open_target)
    request = post("/write", f"Authorization: Bearer {open_target.token}", body=bytes(400_000))
    status, seen = send_with_answers(open_target, request, CLOSE)
    assert (status, len(seen)) == (502, 1)


def test_an_idle_connection_that_the_upstream_closed_is_not_used(open_target: Target) -> None:
    warm(open_target)
    recorder = open_target.recorder
    recorder.hang_up()
    status, seen = send_with_answers(open_target, post("/x"))
    assert (status, len(seen)) == (200, 1)


# Deadlines


def test_a_head_that_does_not_end(client: Client) -> None:
    client.send((b"GET /x HTTP/1.1\r\nHost: prom",))
    assert seconds_until_closed(client) < HEADER_S + SWEEP_S


@pytest.mark.parametrize("trickle", [b"\r\n", b"X: a\r\n"])
def test_a_head_that_trickles(trickle: bytes, client: Client) -> None:
    client.send((b"" if trickle == b"\r\n" else b"GET /x HTTP/1.1\r\n",))
    began = monotonic()
    while not client.ended:
        client.send((trickle,))
        client.receive_some(0.1)
        assert monotonic() - began < HEADER_S + SWEEP_S


@pytest.mark.parametrize("path", ["/x", "/write"])
def test_a_body_that_stops_coming(path: str, open_target: Target, client: Client) -> None:
    recorder = open_target.recorder
    client.send((post(path, f"Authorization: Bearer {open_target.token}", body=SLOW_BODY)[:-1],))
    assert recorder.wait_for(recorder.holds_head)
    assert seconds_until_closed(client) < BODY_S + len(SLOW_BODY) / 500 + SWEEP_S
    assert b"HTTP/1.1 408" not in client.received  # a sender drops its data for that
    assert recorder.requests() == []
    assert recorder.wait_for(lambda: all(connection.end for connection in recorder.touched()))


def test_an_upstream_that_does_not_answer(open_target: Target) -> None:
    began = monotonic()
    status, _ = send_with_answers(open_target, get("/x"), (Act.HOLD,))
    assert status == 504
    assert RESPONSE_S - 0.1 <= monotonic() - began < RESPONSE_S + SWEEP_S


# U12


@pytest.fixture(scope="module")
def absent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A relay before an upstream that refuses, and one that never answers a SYN."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # its queue is full: the kernel drops what comes
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        refusing = f"http://127.0.0.1:{free_port()}"
        recorder = Recorder()
        stack.callback(recorder.stop)
        routes = [
            write_route("/write", refusing),
            route("full", "/full", f"http://127.0.0.1:{full.getsockname()[1]}"),
            route("refused", "/refused", refusing),
            route("read", "/", recorder.url),
        ]
        relay = Relay(tmp_path_factory.mktemp("absent"), routes)
        token = relay.token()
        stack.enter_context(relay)
        yield Target(relay, recorder, token)


@pytest.mark.parametrize(
    ("path", "statuses"), [("/refused/x", {502, 503}), ("/write", {502, 503}), ("/full/x", {504, 503})]
)
def test_an_upstream_that_is_away(path: str, statuses: set[int], absent: Target) -> None:
    with Client(absent.relay.address) as client:
        client.send((post(path, f"Authorization: Bearer {absent.token}") + get("/probe/7"),))
        answer = client.read_answer()
        assert answer.status in statuses
        assert 5 <= int(answer.values(b"Retry-After")[0]) <= 30
        assert client.read_answer().body == b"/probe/7"  # the body was not taken for a request
    assert not absent.relay.complaints()
