"""kill -9 and a disk that fails, at every call that changes a file, while tokens are delivered, fetched and ended.

The store, its audit and the files of two senders lie in one directory in which each such call may be the last. After
each of them, what is in a sender's file opens the door of a store that is opened anew, and whoever takes the rotation
up ends it. `make soak` strikes every call with every fault; the common run takes turns.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import pytest

from proxy.audit.trail import Trail, head_beside
from proxy.audit.verify import verify
from proxy.stores.ledger import LedgerFile, ledger_beside
from proxy.tokens.ledger import Sighting
from proxy.tokens.secret import digest
from proxy.tokens.token import ACCEPTED, TokenState, state_at
from tests.desk.fetch_once import HOST
from tests.kit.fault_site import FaultSite, fault_directory
from tests.kit.rig import FAULTS, KILL, TORN, Rig

#: Takes what it is given and puts it in place whole, as a program of an operator does.
KEEP = 'cat > "$0.new" && mv "$0.new" "$0"'
#: Every call by each fault, or one call of so many, by the faults in turn.
STRIDE, TURNS = (1, [[name] for name in FAULTS]) if os.environ.get("PROMGATE_SOAK") else (11, [[*FAULTS]])
by_turns = pytest.mark.parametrize("turns", TURNS, ids="-".join)


class Site(FaultSite):
    """With an audit, and two senders that read their files."""

    def __init__(self, directory, library, tokens):
        state = directory / "state"
        #: What senders read, by the name of the file.
        self.files = [state / "agent.token", state / "other.token"]
        store = {"store": "sqlite:///state/promgate.db"}
        super().__init__(
            directory, library, {"tokens": store | tokens(self), "audit": {"file": "state/audit.jsonl"}}
        )
        self.trail = Trail(self.state / "audit.jsonl", head_beside(self.store))
        self.fetching = Rig(library, self.state, "tests.desk.fetch_once:main")

    def close(self):
        super().close()
        self.fetching.close()

    def fetch(self, at=0, what=0):
        return self.fetching.run([str(self.config), str(self.files[0])], at, what)

    def held(self):
        """The digest of what is in each sender's file that is there."""
        return [digest(file.read_bytes().removesuffix(b"\n")) for file in self.files if file.exists()]


def delivered(site):
    """To a file, which we write, and by a program."""
    command = ["sh", "-c", KEEP, str(site.files[1])]
    return {"deliver": {"prom": [{"file": str(site.files[0])}, {"command": command}]}}


def fetched(_):
    return {"senders": {"prom": "one"}}


@pytest.fixture
def site(rig_library, request):
    tokens = getattr(request, "param", delivered)
    with fault_directory() as directory, closing(Site(directory, rig_library, tokens)) as made:
        yield made


def each_fault(site, act, turns):
    """Do it with a fault at one call after the other, until there is no such call any more."""
    at = 1
    for name in itertools.cycle(turns):
        site.put_back()
        what = FAULTS[name]
        ended = act(at=at, what=what)
        if not ended.struck:
            break
        if what in (KILL, TORN):
            assert ended.code == -signal.SIGKILL, ended
        else:
            assert ended.code in (0, 1), ended
            assert "Traceback" not in ended.stderr
            assert ended.code == 0 or str(site.state) in ended.stderr
        check(site)
        yield ended
        at += STRIDE
    assert ended.code == 0, ended
    assert at > STRIDE, "the rig hardly struck"
    check(site)


def check(site):
    """A store that is whole, its audit too, and nobody back who was revoked. Whose turn it is can be told."""
    with closing(sqlite3.connect(site.store)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert verify(site.trail).problems == []
    states = states_of(site)
    revoked = [token.digest for token in site.before if token.revoked_at is not None]
    assert all(states[one] is TokenState.REVOKED for one in revoked)
    assert [*states.values()].count(TokenState.CURRENT) <= 1
    assert sum(rotation.is_open for rotation in site.story("prom").rotations) <= 1


def states_of(site):
    now = time.time()
    return {token.digest: state_at(token, now) for token in site.story("prom").tokens}


def take_up(site):
    """Whoever comes next ends the rotation that is open: all senders have the current token then, and none is left."""
    for rotation in [one for one in site.story("prom").rotations if one.is_open]:
        again = site.run("rotate", "prom", "--id", rotation.id)
        assert again.code == 0, again
    states = states_of(site)
    assert {states[one] for one in site.held()} == {TokenState.CURRENT}
    assert len(site.held()) == 2
    assert sorted(file.name for file in site.state.iterdir() if "token" in file.name) == ["agent.token", "other.token"]


def prepare(site):
    """A name that was rotated once, and whose first token was revoked."""
    assert site.run("create", "prom").code == 0
    assert site.run("rotate", "prom").code == 0
    first = site.story("prom").tokens[0]
    assert site.run("revoke", "prom", "--id", first.id).code == 0
    site.before = site.story("prom").tokens
    site.save()


@by_turns
def test_a_sender_has_a_token_that_works_whenever_a_rotation_dies(site, turns):
    prepare(site)
    for ended in each_fault(site, lambda **at: site.run("rotate", "prom", **at), turns):
        states = states_of(site)
        assert len(site.held()) == 2
        assert {states[one] for one in site.held()} <= ACCEPTED
        if ended.code == 0:
            assert {states[one] for one in site.held()} == {TokenState.CURRENT}
        take_up(site)
        check(site)


@by_turns
def test_what_a_first_delivery_left_is_accepted(site, turns):
    site.before = ()
    assert site.run("create", "other").code == 0, "the store is there; how it is made is told elsewhere"
    site.save()
    for _ in each_fault(site, lambda **at: site.run("create", "prom", **at), turns):
        states = states_of(site)
        assert {states[one] for one in site.held()} <= ACCEPTED
        if not states:
            assert site.run("create", "prom").code == 0
        take_up(site)


@by_turns
def test_a_leaked_token_ends_and_its_senders_are_held_until_they_have_the_next(site, turns):
    """Either nothing has happened, or the leaked token is revoked for good, and held for whoever still sends it."""
    prepare(site)
    leaked = site.before[-1].digest
    for ended in each_fault(site, lambda **at: site.run("revoke", "--digest", leaked.hex(), **at), turns):
        story, states = site.story("prom"), states_of(site)
        if states[leaked] is TokenState.REVOKED:
            (token,) = [one for one in story.tokens if one.digest == leaked]
            assert token.held_until > time.time()
            assert any(state in ACCEPTED for state in states.values()), "the successor was committed with the end"
            assert all(one == leaked or states[one] in ACCEPTED for one in site.held())
        else:
            assert ended.code != 0
            assert site.held() == [leaked, leaked]
            assert site.run("revoke", "--digest", leaked.hex()).code == 0
        take_up(site)
        assert states_of(site)[leaked] is TokenState.REVOKED
        assert leaked not in site.held()


@by_turns
def test_an_overlap_is_ended_whole_or_not_at_all(site, turns):
    prepare(site)
    assert site.run("rotate", "prom").code == 0
    previous, current = [token.digest for token in site.story("prom").tokens[-2:]]
    shutil.rmtree(site.saved)
    site.save()
    for ended in each_fault(site, lambda **at: site.run("finish", "prom", "--force", **at), turns):
        states = states_of(site)
        assert states[current] is TokenState.CURRENT
        assert site.held() == [current, current]
        assert states[previous] in (TokenState.PREVIOUS, TokenState.RETIRED)
        assert ended.code != 0 or states[previous] is TokenState.RETIRED
        again = site.run("finish", "prom", "--force")
        assert again.code == (1 if states[previous] is TokenState.RETIRED else 0), again
        assert states_of(site)[previous] is TokenState.RETIRED


@pytest.mark.parametrize("site", [fetched], ids=["fetched"], indirect=True)
@by_turns
def test_a_sender_that_fetches_its_token_never_holds_one_that_is_refused(site, turns):
    """Server and sender die at any call of either; the sender comes again, with what is in its file."""
    secret = site.run("create", "prom").stdout.strip()
    site.files[0].touch(mode=0o640)
    site.files[0].write_text(secret + "\n")
    assert site.run("rotate", "prom").code == 0
    site.before = site.story("prom").tokens
    now = time.time()
    with closing(LedgerFile(ledger_beside(site.store), now)) as ledger:
        used = f"{HOST.address} Prometheus", HOST.address, "Prometheus/2.53", now - 60, now, 9
        ledger.record([Sighting("prom", site.before[0].id, *used)])
    site.save()
    for ended in each_fault(site, site.fetch, turns):
        states = states_of(site)
        (held,) = site.held()
        assert states[held] in ACCEPTED
        assert site.files[0].stat().st_mode & 0o777 == 0o640
        if ended.code == 0:
            assert states[held] is TokenState.CURRENT
        assert site.fetch().code == 0
        (held,) = site.held()
        assert states_of(site)[held] is TokenState.CURRENT
        assert states_of(site)[site.before[0].digest] is TokenState.PREVIOUS
        assert [file.name for file in site.state.iterdir() if "agent.token" in file.name] == ["agent.token"]
        check(site)
