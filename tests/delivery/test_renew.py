"""`promgate token renew` before a real desk and store, by HTTPS: what lies in the file is always a token that works."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from proxy.delivery.ask import NoAnswer
from proxy.delivery.renew import PATH, Renewal, Renewer, RenewError, watch
from proxy.desk.desk import Desk
from proxy.desk.renew_reply import Renewing
from proxy.desk.rotating import rotate
from proxy.gate.snapshot import TokenRules
from proxy.stores.sqlite import open_store
from proxy.tokens.lifecycle import create
from proxy.tokens.renewal import Caller
from proxy.tokens.secret import digest
from proxy.tokens.token import ACCEPTED, TokenKind, TokenState, state_at
from tests.kit.http_server import Reply
from tests.kit.promgate import ROOT
from tests.kit.wait import wait_for

RULES = TokenRules(renewing=frozenset({"edge"}))


class Nobody:
    def of(self, _):
        return ()


class Site:
    """A store with a token, its desk, and an endpoint that lets in who shows an accepted token."""

    def __init__(self, store, endpoint, pair, tmp_path):
        self.store, self.endpoint = store, endpoint
        self.ca_file = str(pair / "ca.crt")
        self.file = tmp_path / "sender" / "edge.token"
        self.file.parent.mkdir()
        self.renewing = Renewing(self.desk)
        self.answered = []
        self.before = lambda: None
        endpoint.answer = self._answer
        issued = create("edge", (), kind=TokenKind.WRITE, now=time.time() - 1000, random=self.random)
        store.commit(issued.change)
        self.file.write_text(issued.secret.reveal() + "\n")
        self.file.chmod(0o640)

    def random(self, size):
        with open("/dev/urandom", "rb") as source:  # noqa: PTH123
            return source.read(size)

    def desk(self, _=None):
        return Desk(self.store, RULES, time.time, self.random, lambda generation: generation, sightings=Nobody())

    def _answer(self, request):
        assert (request.method, request.path) == ("POST", PATH)
        if (instead := self.before()) is not None:
            return instead
        token = self.store.find(digest(request.headers["Authorization"].removeprefix("Bearer ").encode()))
        if token is None or state_at(token, time.time()) not in ACCEPTED:
            return Reply(401, b"promgate: this token is not accepted\n")
        caller = Caller("10.0.0.7", request.headers["User-Agent"])
        status, body, kind, after = self.renewing.answer(token.name, token.id, caller)
        self.answered.append(status)
        return Reply(status, body, kind, {"Retry-After": str(after)} if after else {})

    def renewer(self, **how):
        return Renewer(self.endpoint.base, self.file, self.ca_file, **how)

    def begin(self, rotation_id=None):
        return rotate(self.desk(), "edge", rotation_id=rotation_id)

    def held(self):
        """The state of what the file holds."""
        token = self.store.find(digest(self.file.read_bytes().strip()))
        return state_at(token, time.time())

    def states(self):
        return sorted(state_at(token, time.time()).value for token in self.store.named("edge"))


@pytest.fixture
def site(endpoint, pair, tmp_path):
    with closing(open_store(tmp_path / "state" / "promgate.db")) as store:
        yield Site(store, endpoint, pair, tmp_path)


def test_nothing_to_do(site):
    before = site.file.stat().st_ino
    assert site.renewer().look() is Renewal.NOTHING
    assert site.file.stat().st_ino == before


def test_the_whole_way(site):
    site.begin()
    assert site.renewer().look() is Renewal.DONE
    assert site.held() is TokenState.CURRENT
    assert site.states() == ["current", "previous"]
    assert site.answered == [200, 204]
    assert oct(site.file.stat().st_mode)[-3:] == "640"
    assert site.renewer().look() is Renewal.NOTHING


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("fault", [Reply(503, headers={"Retry-After": "7"}), Reply(502), Reply(500, b"oops")])
def test_an_outage_at_each_request_leaves_a_token_that_works(site, at, fault):
    site.begin()
    asked = []

    def before():
        asked.append(1)
        return fault if len(asked) == at else None

    site.before = before
    if at == 1:
        with pytest.raises(RenewError) as failed:
            site.renewer().look()
        assert not failed.value.is_final
        assert failed.value.retry_after_s == (7.0 if fault.headers else 0.0)
        assert site.held() is TokenState.CURRENT
        assert site.renewer().look() is Renewal.DONE
    else:
        assert site.renewer().look() is Renewal.PLACED
        assert site.held() is TokenState.PENDING
        assert site.renewer().look() is Renewal.NOTHING
    assert site.held() is TokenState.CURRENT
    assert site.states() == ["current", "previous"]


def test_an_answer_that_is_lost_is_asked_for_again(site):
    """The successor was minted and never came: the next one replaces it."""
    site.begin()
    lost = []

    def send(request, deadline_s):
        from proxy.delivery.ask import ask  # noqa: PLC0415

        answer = ask(request, deadline_s)
        if not lost:
            lost.append(answer)
            raise NoAnswer("answer", "the line broke")
        return answer

    renewer = site.renewer(send=send)
    with pytest.raises(RenewError, match="the line broke"):
        renewer.look()
    assert site.held() is TokenState.CURRENT
    assert renewer.look() is Renewal.DONE
    assert site.states() == ["current", "previous", "revoked"]


def test_a_directory_that_cannot_be_written_leaves_the_old_token(site):
    site.begin()
    site.file.parent.chmod(0o777)
    with pytest.raises(RenewError, match="everybody may write"):
        site.renewer().look()
    assert site.held() is TokenState.CURRENT
    site.file.parent.chmod(0o700)
    assert site.renewer().look() is Renewal.DONE


@pytest.mark.parametrize(
    ("written", "said"),
    [("", "holds no token"), ("hunter2\n", "holds no token"), (None, "cannot be read: No such file")],
)
def test_a_file_that_holds_none(site, written, said):
    site.file.unlink()
    if written is not None:
        site.file.write_text(written)
    with pytest.raises(RenewError, match=said):
        site.renewer().look()
    assert site.endpoint.received == []


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"token": ""}', b'{"token": "pgw_x"}', b'{"token": 5}', b'{"token": null}'],
)
def test_what_is_no_token_never_gets_into_the_file(site, body):
    before = site.file.read_bytes()
    site.before = lambda: Reply(200, body)
    with pytest.raises(RenewError, match="something else than a successor"):
        site.renewer().look()
    assert site.file.read_bytes() == before


@pytest.mark.parametrize(
    ("status", "is_final"), [(401, True), (403, True), (404, True), (409, True), (302, True), (429, False)]
)
def test_what_is_for_the_operator_is_told_apart(site, status, is_final):
    site.before = lambda: Reply(status, b"promgate: so it is\n")
    with pytest.raises(RenewError, match=f"answered {status}: promgate: so it is") as failed:
        site.renewer().look()
    assert failed.value.is_final is is_final


@pytest.mark.parametrize("url", ["", "prom.example.net", "ftp://h", "http://prom.example.net", "https://u@h", "https://h/?x"])
def test_a_url_that_is_none(site, url):
    with pytest.raises(RenewError):
        Renewer(url, site.file)


def test_a_stranger_is_an_alarm_and_learns_nothing(site, caplog):
    site.begin("r1")
    assert site.renewer().look() is Renewal.DONE
    site.begin("r2")
    token = site.store.find(digest(site.file.read_bytes().strip()))
    site.renewing.answer("edge", token.id, Caller("10.0.0.7", "promgate-renew"))
    answer = site.renewing.answer("edge", token.id, Caller("10.6.6.6", "promgate-renew"))
    assert (answer.status, answer.body) == (409, b"promgate: this rotation was stopped: ask who runs promgate\n")
    assert site.renewing.strangers == 1
    (alarm,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "10.6.6.6 promgate-renew came for the successor that 10.0.0.7 promgate-renew has picked up" in alarm.message
    with pytest.raises(RenewError, match="answered 409"):
        site.renewer().look()
    assert site.held() is TokenState.CURRENT


def test_no_log_line_holds_a_secret(site, caplog):
    caplog.set_level("DEBUG")
    site.begin()
    site.renewer().look()
    assert caplog.records
    assert site.file.read_text().strip().rpartition("_")[2] not in caplog.text


def test_watching_survives_outages_and_ends_when_it_is_told(site):
    said, ended = [], threading.Event()
    site.before = lambda: Reply(503)
    watching = threading.Thread(target=watch, args=(site.renewer(), 0.05, ended, said.append))
    watching.start()
    wait_for(lambda: said, "the first trouble")
    site.begin()
    site.before = lambda: None
    wait_for(lambda: site.held() is TokenState.CURRENT and site.states() == ["current", "previous"], "the renewal")
    wait_for(lambda: said[-1] == Renewal.DONE.value, "the word of it")
    ended.set()
    watching.join(20)
    assert not watching.is_alive()
    assert len(said) == 3, said
    assert said[1] == "it works again"


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {"proxy", "aiohttp"}:
            raise ModuleNotFoundError(f"{name} is not on a sender's machine")
sys.meta_path.insert(0, Block())
from proxy.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command(site, *more, code=BLOCKED):
    arguments = ["token", "renew", "--url", site.endpoint.base, "--credentials-file", str(site.file)]
    return [sys.executable, "-c", code, *arguments, "--ca-file", site.ca_file, *more]


def test_the_command_runs_where_nothing_else_is_installed(site):
    site.begin()
    done = subprocess.run(command(site), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr == "promgate: the file holds the successor, and it is current\n"
    assert site.held() is TokenState.CURRENT


def test_the_command_ends_with_1_when_it_cannot(site):
    site.file.write_text("")
    done = subprocess.run(command(site), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"promgate: {site.file} holds no token of promgate's\n"


def test_the_watching_command_renews_and_ends_on_sigterm(site):
    child = subprocess.Popen(
        command(site, "--watch", "--interval", "1s"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: site.answered, "its first look", timeout_s=60)
        assert site.held() is TokenState.CURRENT
        site.begin()
        wait_for(lambda: site.states() == ["current", "previous"], "the renewal", timeout_s=60)
        child.terminate()
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert (child.returncode, said) == (0, "promgate: the file holds the successor, and it is current\n")
    assert site.held() is TokenState.CURRENT


def test_a_certificate_that_cannot_be_shown_is_named_and_tried_again(site, tmp_path):
    with pytest.raises(RenewError, match=r"gone\.crt cannot be shown with its key: No such file") as refused:
        site.renewer(pair=(str(tmp_path / "gone.crt"), str(tmp_path / "gone.key"))).look()
    assert not refused.value.is_final
