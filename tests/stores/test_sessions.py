"""One contract for every store of sessions, and what is of the file alone: modes, restarts, damage."""

from __future__ import annotations

import math
import sqlite3
import stat
from dataclasses import replace

import pytest

from proxy.gate.session import Session, SessionRecord
from proxy.stores import sessions
from proxy.stores.sessions import SessionFile, SessionsInMemory, sessions_beside
from proxy.tokens.ports import StoreError

NOW = 1_700_000_000.0


def record(number, **changes):
    session = Session(
        bytes([number]) * 32, f"oidc:user:{number}@x.example", "corp", "terms", NOW + number, ("a", "b c=d"),
        f"sub-{number}", f"sid-{number}", NOW + 300,
    )  # fmt: skip
    seen_at = changes.pop("seen_at", NOW + number)
    return SessionRecord(replace(session, **changes), seen_at, f"sealed-{number}")


@pytest.fixture
def path(tmp_path):
    return sessions_beside(tmp_path / "promgate.db")


@pytest.fixture(params=["file", "memory"])
def store(request, path):
    made = SessionFile(path) if request.param == "file" else SessionsInMemory()
    yield made
    made.close()


def test_what_was_put_is_found(store):
    one = record(1)
    assert store.find(one.session.digest) is None
    store.put(one)
    assert store.find(one.session.digest) == one
    store.put(replace(one, sealed="anew", session=replace(one.session, name="other")))
    assert store.find(one.session.digest).sealed == "anew"
    assert len(store.load(10)) == 1


def test_a_session_without_an_end_of_its_provider_s_word(store):
    store.put(record(1, fresh_until=math.inf, granted=()))
    assert store.find(record(1).session.digest).session.fresh_until == math.inf


def test_those_seen_last_come_first(store):
    for number in (1, 3, 2):
        store.put(record(number))
    assert [one.session.digest[0] for one in store.load(2)] == [3, 2]


def test_a_last_sight_moves_forward_alone_and_brings_nothing_back(store):
    store.put(record(1))
    store.touch({record(1).session.digest: NOW + 100, record(9).session.digest: NOW})
    store.touch({record(1).session.digest: NOW + 50})
    assert [one.seen_at for one in store.load(10)] == [NOW + 100]


def test_what_has_ended_is_gone(store):
    store.put(record(1))
    store.put(record(2))
    store.end([record(1).session.digest, record(9).session.digest])
    assert [one.session.digest[0] for one in store.load(10)] == [2]


@pytest.mark.parametrize(
    ("login", "subject", "provider_session", "found"),
    [
        ("corp", "sub-1", "", [1, 3]),
        ("corp", "", "sid-1", [1]),
        ("corp", "sub-1", "sid-1", [1]),
        ("corp", "sub-1", "sid-3", [3]),
        ("corp", "sub-2", "sid-1", []),
        ("other", "sub-1", "", []),
        ("corp", "", "", []),
    ],
)
def test_whom_a_provider_means(store, login, subject, provider_session, found):
    for one in (record(1), record(2), record(3, subject="sub-1"), record(4, login="else", subject="sub-1")):
        store.put(one)
    assert sorted(digest[0] for digest in store.find_by(login, subject, provider_session)) == found


def test_a_sweep_takes_the_old_the_idle_and_the_oldest_of_too_many(store, monkeypatch):
    for number in range(6):
        store.put(record(number))
    store.sweep(NOW + 1, NOW + 2)
    assert sorted(one.session.digest[0] for one in store.load(10)) == [2, 3, 4, 5]
    monkeypatch.setattr(sessions, "MAX_IN_ALL", 2)
    store.sweep(0, 0)
    assert [one.session.digest[0] for one in store.load(10)] == [5, 4]


def test_it_survives_the_process(path):
    first = SessionFile(path)
    first.put(record(1))
    first.close()
    again = SessionFile(path)
    assert again.load(10) == [record(1)]
    again.close()


def test_it_is_for_us_alone(path):
    store = SessionFile(path)
    store.put(record(1))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}
    store.close()
    path.chmod(0o644)
    with pytest.raises(StoreError, match="chmod o-rwx"):
        SessionFile(path)


def test_another_file_is_refused(path):
    sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close()
    path.chmod(0o600)
    with pytest.raises(StoreError, match="people log in again"):
        SessionFile(path)
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError):
        SessionFile(path)


def test_one_that_was_taken_away_is_an_error_and_not_an_empty_one(path):
    store = SessionFile(path)
    path.unlink()
    with pytest.raises(StoreError, match="was removed"):
        store.find(bytes(32))
    store.close()


def test_what_is_damaged_within_is_an_error(path):
    store = SessionFile(path)
    store.put(record(1))
    with sqlite3.connect(path) as db:
        db.execute("UPDATE session SET granted = '{'")
    with pytest.raises(StoreError, match="damaged"):
        store.load(10)
    store.close()


def test_what_has_ended_is_told_once_and_does_not_come_back(store):
    for number in (1, 2, 3):
        store.put(record(number))
    digests = [record(number).session.digest for number in (1, 2, 3)]
    assert store.ended() == []
    store.end(digests[:1])
    store.end([*digests[:1], bytes(32)])
    assert store.ended() == [digests[0], bytes(32)]
    assert store.ended() == []
    store.put(record(1))
    assert store.find(digests[0]) is None
    store.end(digests[1:2])
    assert store.ended() == digests[1:2]
    assert store.find(digests[2]) is not None


def test_two_on_one_file_tell_each_other(path):
    with_one, other = SessionFile(path), SessionFile(path)
    with_one.put(record(1))
    digest = record(1).session.digest
    assert other.find(digest) == record(1)
    other.end([digest])
    assert with_one.ended() == other.ended() == [digest]
    other.put(record(1))
    assert with_one.find(digest) is None
    with_one.close()
    other.close()


def test_one_may_ask_about_a_session_until_it_is_put(path):
    store, other = SessionFile(path), SessionFile(path)
    digest = record(1).session.digest
    store.put(record(1))
    assert store.claim(digest, "a", NOW, NOW + 10)
    assert not other.claim(digest, "b", NOW + 9, NOW + 19)
    assert store.claim(digest, "a", NOW + 9, NOW + 19), "the same one again"
    assert not other.claim(digest, "b", NOW + 18, NOW + 28)
    assert other.claim(digest, "b", NOW + 19, NOW + 29), "its time is over"
    other.put(record(1))
    assert store.claim(digest, "a", NOW + 20, NOW + 30)
    store.end([digest])
    store.sweep(0.0, 0.0)
    assert other.claim(digest, "b", NOW + 20, NOW + 30)
    store.close()
    other.close()


def test_those_that_ended_are_bounded(store, monkeypatch):
    monkeypatch.setattr(sessions, "_MAX_ENDED", 2)
    store.end([bytes([number]) * 32 for number in range(5)])
    store.sweep(0.0, 0.0)
    assert [digest[0] for digest in store.ended()] == [3, 4]


def test_a_file_of_before_learns_what_has_ended(path):
    made = SessionFile(path)
    made.put(record(1))
    made.close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE ended")
    db.close()
    again = SessionFile(path)
    again.end([record(1).session.digest])
    assert again.ended() == [record(1).session.digest]
    again.close()
