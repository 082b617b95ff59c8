"""The webhook sink: what is sent and signed, what counts as a receipt, and whom it trusts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from contextlib import suppress

import pytest

from proxy.delivery.webhook import WebhookSink, parse_key, signature
from proxy.tokens.ports import DeliveryError
from proxy.tokens.targets import WebhookTarget
from tests.delivery.play import make_pair, own_part, parcel
from tests.kit.http_server import Reply

KEY = b"a key of more than twenty-four bytes"
NOW = 1_750_000_000.75


@pytest.fixture
def make(tmp_path, pair, endpoint):
    key = tmp_path / "key"
    key.write_bytes(KEY + b"\n")

    def sink(url=f"{endpoint.base}/hook", ca_file=pair / "ca.crt", secret_file=key, **how):
        return WebhookSink(WebhookTarget(url, str(secret_file), str(ca_file) if ca_file else "", **how), lambda: NOW)

    return sink


def failure(sink):
    with pytest.raises(DeliveryError) as failed:
        sink.deliver(parcel())
    said = str(failed.value)
    assert own_part(parcel().secret) not in said
    assert KEY.decode() not in said
    assert said.startswith(f"{sink.target}: ")
    return said.removeprefix(f"{sink.target}: ")


def test_what_is_sent(make, endpoint):
    make().deliver(parcel())
    (request,) = endpoint.received
    assert request.path == "/hook"
    assert json.loads(request.body) == {
        "type": "token.rotated",
        "timestamp": "2025-06-15T15:06:40Z",
        "data": {
            "name": "agent",
            "kind": "write",
            "token_id": parcel().token_id,
            "rotation": "rotation-1",
            "token": parcel().secret.reveal(),
        },
    }
    headers = request.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == f"rotation-1-{parcel().token_id}"
    assert headers["webhook-timestamp"] == "1750000000"


def test_the_signature_is_what_a_receiver_works_out(make, endpoint):
    """By hand, as https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md has it."""
    make().deliver(parcel())
    (request,) = endpoint.received
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_the_signature_of_the_specification():
    """The example of the specification's reference libraries."""
    key = parse_key(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_2xx_is_the_receipt(make, endpoint, status):
    endpoint.answer = lambda _: Reply(status)
    make().deliver(parcel())
    assert len(endpoint.received) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Reply(500, b"out of order\nmore"), "answered 500: out of order"),
        (Reply(404), "answered 404"),
        (Reply(302, headers={"Location": "/elsewhere"}), "answered 302; redirects are not followed: name the place"),
        (Reply(307, headers={"Location": "/elsewhere"}), "answered 307; redirects are not followed: name the place"),
        (Reply(400, b"bad key " + KEY), "answered 400: (what it said is withheld: it holds the secret)"),
        (Reply(400, b"\x1b[2J\xff"), "answered 400:  [2J\ufffd"),
    ],
)
def test_anything_else_is_a_failure(make, endpoint, answer, said):
    endpoint.answer = lambda _: answer
    assert failure(make()) == said
    assert len(endpoint.received) == 1


def test_an_answer_with_the_token_in_it_is_withheld(make, endpoint):
    endpoint.answer = lambda request: Reply(422, request.body)
    assert failure(make()) == "answered 422: (what it said is withheld: it holds the secret)"


def test_another_s_certificate_is_refused(make, endpoint, tmp_path):
    stranger = make_pair(tmp_path)
    assert failure(make(ca_file=stranger / "ca.crt")).startswith("the certificate of 127.0.0.1 is not good: ")
    assert failure(make(ca_file=None)).startswith("the certificate of 127.0.0.1 is not good: ")
    assert endpoint.received == []


def test_a_certificate_for_another_name_is_refused(make, endpoint):
    said = failure(make(server_name="elsewhere.example.net"))
    assert said.startswith("the certificate of 127.0.0.1 is not good: Hostname mismatch")
    assert endpoint.received == []
    make(server_name="localhost").deliver(parcel())
    assert endpoint.received[0].headers["Host"] == f"localhost:{endpoint.base.rpartition(':')[2]}"


def test_no_tls_at_all(make):
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer():
            peer, _ = plain.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                peer.recv(65536)

        thread = threading.Thread(target=answer)
        thread.start()
        assert failure(make(url=f"https://127.0.0.1:{plain.getsockname()[1]}/")).startswith("no TLS with 127.0.0.1: ")
        thread.join()


def test_what_is_no_answer_is_not_repeated(make):
    """A status line is the peer's own text, and this peer sends back what it was given."""
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def echo():
            peer, _ = plain.accept()
            with peer:
                got = b""
                while parcel().secret.reveal().encode() not in got:
                    got += peer.recv(65536)
                peer.sendall(b"\x1b[31mgot " + parcel().secret.reveal().encode() + b"\r\n\r\n")

        thread = threading.Thread(target=echo)
        thread.start()
        said = failure(make(url=f"http://127.0.0.1:{plain.getsockname()[1]}/"))
        thread.join()
    assert said.endswith("gave no answer: what it sent is not HTTP")


def test_nobody_there(make):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert failure(make(url=f"https://127.0.0.1:{port}/")) == f"cannot connect to 127.0.0.1:{port}: Connection refused"


def test_an_answer_that_trickles_meets_the_deadline(make):
    """Each byte comes in time, and the whole would take for ever."""
    left = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def trickle():
            peer, _ = plain.accept()
            with peer, suppress(OSError):
                peer.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not left.wait(0.05):
                    peer.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        before = time.monotonic()
        said = failure(make(url=f"http://127.0.0.1:{plain.getsockname()[1]}/", timeout_s=0.5))
        assert said.endswith("gave no answer: it took longer than 0.5 s")
        assert time.monotonic() - before < 30
        left.set()
        thread.join()


def test_proxies_of_the_environment_are_not_asked(make, endpoint, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    make().deliver(parcel())
    assert len(endpoint.received) == 1


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"short", "a key has at least 24 bytes: make one with `openssl rand -base64 32`"),
        (b"whsec_c2hvcnQ=", "a key has at least 24 bytes: make one with `openssl rand -base64 32`"),
        (b"whsec_!!!", "what follows whsec_ is not base64"),
    ],
)
def test_a_key_that_is_none(make, endpoint, tmp_path, written, said):
    key = tmp_path / "bad"
    key.write_bytes(written)
    assert failure(make(secret_file=key)) == f"{key}: {said}"
    key.unlink()
    assert failure(make(secret_file=key)) == f"{key} cannot be read: No such file or directory"
    assert endpoint.received == []
