"""The canary before servers that answer wrongly. tests/e2e/test_canary.py has it before a real Prometheus."""

from __future__ import annotations

import json
import socket
import struct
from urllib.parse import parse_qs, urlsplit

import cramjam
import pytest

from proxy.delivery.canary import Canary
from proxy.tokens.ports import CanaryError
from proxy.tokens.secret import mint
from proxy.tokens.targets import CanaryRules
from proxy.tokens.token import TokenKind
from tests.delivery.play import own_part, parcel
from tests.kit.http_server import Reply
from tests.tokens.play import randomness

SECRET = parcel().secret
NOW = 1_750_000_000.1234


def vector(*values):
    result = [{"metric": {}, "value": [NOW, value]} for value in values]
    return Reply(200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode())


class Place:
    """A receiver of one sample, which a reader gets back. `write` and `read` are what it answers instead, in turn."""

    def __init__(self, endpoint, pair, tmp_path):
        self.endpoint, self.tmp_path = endpoint, tmp_path
        self.write, self.read = [], []
        self.value = None
        self.waited = []
        endpoint.answer = self._answer
        (tmp_path / "reader").write_text("reader's own secret\n")
        base = f"{endpoint.base}/api/v1"
        self.rules = CanaryRules(
            f"{base}/write",
            f"{base}/query",
            ca_file=str(pair / "ca.crt"),
            credentials_file=str(tmp_path / "reader"),
            timeout_s=5.0,
            readers=frozenset({"grafana"}),
        )

    def _answer(self, request):
        if request.method == "POST":
            body = bytes(cramjam.snappy.decompress_raw(request.body))
            (self.value,) = struct.unpack("<d", body[-15:-7])  # before a tag and six bytes of time
            return self.write.pop(0) if self.write else Reply(204)
        if self.read:
            return self.read.pop(0)
        expression = parse_qs(urlsplit(request.path).query)["query"][0]
        if expression.startswith("vector("):
            return vector(expression[7:-1])
        return vector(f"{self.value:.0f}")

    def prove(self, name="agent", kind=TokenKind.WRITE, secret=SECRET, **rules):
        changed = {field: getattr(self.rules, field) for field in self.rules.__slots__} | rules
        Canary(CanaryRules(**changed), lambda: NOW, self.waited.append).prove(name, kind, secret)

    def fails(self, **how):
        """Step and text of the failure."""
        with pytest.raises(CanaryError) as failed:
            self.prove(**how)
        assert own_part(SECRET) not in str(failed.value)
        assert "reader's own" not in str(failed.value)
        return failed.value.step, str(failed.value)


@pytest.fixture
def place(endpoint, pair, tmp_path):
    return Place(endpoint, pair, tmp_path)


def test_what_is_asked(place):
    place.prove()
    push, query = place.endpoint.received
    assert (push.method, push.path) == ("POST", "/api/v1/write")
    assert push.headers["Authorization"] == f"Bearer {SECRET.reveal()}"
    assert push.headers["Content-Encoding"] == "snappy"
    assert push.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    body = bytes(cramjam.snappy.decompress_raw(push.body))
    for word in (b"promgate_canary", b"agent", parcel().token_id.encode()):
        assert word in body
    assert query.headers["Authorization"] == "Bearer reader's own secret"
    assert parse_qs(urlsplit(query.path).query) == {
        "query": [f'promgate_canary{{name="agent",token="{parcel().token_id}"}}'],
        "time": ["1750000000.123"],
    }


def test_each_proof_has_a_value_of_its_own(place):
    values = set()
    for _ in range(20):
        place.prove()
        values.add(place.value)
    assert len(values) == 20
    assert all(value == int(value) < 2**53 for value in values)


@pytest.mark.parametrize(
    ("status", "step"),
    [(400, "push"), (401, "auth"), (403, "route"), (404, "route"), (405, "route"), (421, "route"), (301, "route"),
     (308, "route"), (413, "push"), (415, "push")],
)  # fmt: skip
def test_a_push_that_is_refused_names_its_step(place, status, step):
    place.write = [Reply(status, b"no\n" + SECRET.reveal().encode())]
    found, text = place.fails()
    assert found == step
    assert str(status) in text
    assert place.waited == []
    assert len(place.endpoint.received) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_not_now_is_asked_again(place, status):
    place.write = [Reply(status), Reply(status)]
    place.read = [Reply(status)]
    place.prove()
    assert place.waited == [0.25] * 3


def test_for_as_long_as_it_is_told(place):
    place.write = [Reply(503, headers={"Retry-After": "2"})]
    place.prove()
    assert place.waited == [2.0]


def test_but_not_beyond_its_deadline(place):
    place.write = [Reply(503, b"later", headers={"Retry-After": "30"})] * 2
    assert place.fails() == ("push", f"{place.rules.push_url} answered 503: later")
    assert place.waited == []


def test_nobody_there(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"https://127.0.0.1:{taken.getsockname()[1]}/api/v1/write"
    step, text = place.fails(push_url=url, timeout_s=0.3)
    assert step == "connect"
    assert "Connection refused" in text


@pytest.mark.parametrize("how", [{"server_name": "elsewhere"}, {"ca_file": ""}])
def test_a_certificate_that_is_not_good(place, how):
    step, text = place.fails(**how)
    assert step == "tls"
    assert "is not good" in text
    assert place.endpoint.received == []


def test_authorities_that_are_none(place):
    assert place.fails(ca_file=str(place.tmp_path / "reader"))[0] == "tls"
    assert place.fails(ca_file=str(place.tmp_path / "nowhere"))[0] == "tls"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_query_that_is_refused(place, status):
    place.read = [Reply(status, b"no, reader's own secret")]
    step, text = place.fails()
    assert step == "query"
    assert f"answered {status}" in text


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"data": {"result": [{"value": ["x"]}]}}', b"[]", b'"x"'])
def test_an_answer_that_is_no_result(place, body):
    place.read = [Reply(200, body)]
    step, text = place.fails()
    assert step == "query"
    assert text.endswith("answered 200 with something else than the result of a query")


@pytest.mark.parametrize(("found", "what"), [((), "nothing"), (("1", "2"), "2 other values")])
def test_another_value_is_no_proof(place, found, what):
    place.read = [vector(*found)] * 10_000
    step, text = place.fails(timeout_s=0.4)
    assert step == "query"
    assert f"has {what} for the sample that was pushed" in text


def test_a_value_that_comes_late_is_waited_for(place):
    place.read = [vector(), vector("1")]
    place.prove()
    assert place.waited == [0.25, 0.25]


def test_the_reader_may_be_a_user_or_nobody(place):
    place.prove(credentials_file="", username="ann", password_file=str(place.tmp_path / "reader"))
    assert place.endpoint.received[-1].headers["Authorization"] == "Basic YW5uOnJlYWRlcidzIG93biBzZWNyZXQ="
    place.prove(credentials_file="")
    assert place.endpoint.received[-1].headers["Authorization"] is None


def test_a_reader_s_secret_that_is_not_there(place):
    step, text = place.fails(credentials_file=str(place.tmp_path / "gone"))
    assert (step, text) == ("query", f"{place.tmp_path}/gone cannot be read: No such file or directory")


def test_a_reader_token_asks_itself(place):
    reader = mint(TokenKind.READER, randomness(5)).secret
    place.prove("grafana", TokenKind.READER, reader)
    (query,) = place.endpoint.received
    assert query.headers["Authorization"] == f"Bearer {reader.reveal()}"
    for status, step in ((401, "auth"), (403, "auth")):
        place.read = [Reply(status)]
        assert place.fails(name="grafana", kind=TokenKind.READER, secret=reader)[0] == step


def test_a_reader_token_that_may_not_query_is_not_proven_and_that_is_said(place, caplog):
    place.prove("alerts", TokenKind.READER, SECRET)
    assert place.endpoint.received == []
    assert "token of alerts is not proven" in caplog.text
