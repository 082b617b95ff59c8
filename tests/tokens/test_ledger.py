"""How sightings add up, and that no number of senders grows the memory without end or goes uncounted."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens.ledger import LATER_S, Kind, Sighting, Tally


def see(tally, sender="a", token="t1", *, at=100.0, kind=Kind.USED, name="prom", times=1):
    """As `observe.senders` does it."""
    mark = tally.find(name, token, kind, sender, f"addr-{sender}", f"agent-{sender}", at)
    mark.last_seen = max(mark.last_seen, at)
    mark.count += times
    mark.fresh += times
    return mark


def taken(tally, now, **how):
    return [sighting for _, sighting in tally.take(now, **how)]


def test_a_first_sight_is_due_at_once_and_a_later_one_a_minute_after_it():
    tally = Tally()
    see(tally, at=100.0)
    assert tally.new
    assert taken(tally, 100.0) == [Sighting("prom", "t1", "a", "addr-a", "agent-a", 100.0, 100.0, 1)]
    assert not tally.new
    see(tally, at=130.0, times=3)
    assert not tally.new
    assert taken(tally, 100.0 + LATER_S - 1) == []
    assert taken(tally, 100.0 + LATER_S) == [Sighting("prom", "t1", "a", "addr-a", "agent-a", 100.0, 130.0, 3)]
    assert taken(tally, 1e9) == []


def test_all_of_it_may_be_asked_for_sooner():
    tally = Tally()
    see(tally)
    tally.take(100.0)
    see(tally, at=101.0)
    assert [one.count for one in taken(tally, 101.0, all_of_it=True)] == [1]


def test_what_could_not_be_written_is_due_still_with_what_came_meanwhile():
    tally = Tally()
    see(tally, times=2)
    failed = tally.take(100.0)
    see(tally, at=101.0, times=5)
    tally.put_back(failed)
    assert [(one.count, one.last_seen) for one in taken(tally, 101.0)] == [(7, 101.0)]


def test_kinds_tokens_and_senders_are_kept_apart():
    tally = Tally()
    for kind in (Kind.USED, Kind.HELD, Kind.REFUSED):
        for token in ("t1", "t2"):
            for sender in ("a", "b"):
                see(tally, sender, token, kind=kind)
    assert len({(one.kind, one.token_id, one.sender) for one in taken(tally, 100.0)}) == 12


def test_it_goes_on_from_what_was_written():
    tally = Tally()
    old = Sighting("prom", "t1", "a", "addr-a", "agent-a", 10.0, 90.0, 40)
    see(tally, at=100.0)  # seen before the file could be read
    tally.load([old])
    (mark,) = tally
    assert (mark.first_seen, mark.last_seen, mark.count, mark.fresh) == (10.0, 100.0, 41, 1)
    tally.load([replace(old, sender="b")])
    assert not tally.new
    assert [one.sender for one in taken(tally, 1e9)] == ["a"]


def test_the_address_and_agent_are_those_of_the_last_request():
    tally = Tally()
    see(tally)
    tally.find("prom", "t1", Kind.USED, "a", "elsewhere", "agent/2", 101.0)
    assert [(one.address, one.agent) for one in taken(tally, 101.0)] == [("elsewhere", "agent/2")]


def test_who_is_one_too_many_for_a_token_is_counted_under_it():
    tally = Tally(per_token=2)
    for sender in "abcde":
        see(tally, sender, at=100.0 + ord(sender))
    see(tally, "a", times=10)
    see(tally, "e", times=10)
    see(tally, "a", "t2")
    found = {(one.token_id, one.kind, one.sender): one.count for one in taken(tally, 1e9)}
    assert found == {
        ("t1", Kind.USED, "a"): 11,
        ("t1", Kind.USED, "b"): 1,
        ("t1", Kind.DROPPED, ""): 13,
        ("t2", Kind.USED, "a"): 1,
    }


def test_who_is_refused_takes_no_place_of_those_who_are_let_in():
    tally = Tally(per_token=2)
    for sender in "abc":
        see(tally, sender, kind=Kind.REFUSED)
    see(tally, "d", kind=Kind.USED)
    assert {(one.kind, one.sender) for one in taken(tally, 1e9)} >= {(Kind.USED, "d"), (Kind.DROPPED, "")}


def test_what_is_old_makes_room():
    tally = Tally(per_token=2, in_all=2)
    see(tally, "a", at=100.0)
    see(tally, "b", at=200.0)
    assert see(tally, "c", at=200.0).kind is Kind.DROPPED
    epoch = tally.epoch
    tally.forget(150.0)
    assert tally.epoch != epoch
    assert [mark.sender for mark in tally if mark.kind is Kind.USED] == ["b"]
    tally.forget(201.0)
    assert len(tally) == 0
    assert see(tally, "c", at=300.0).kind is Kind.USED


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(["t1", "t2", "t3"]), st.sampled_from(list(Kind)[:3])),
        max_size=60,
    ),
    st.integers(1, 4),
    st.integers(1, 8),
)
def test_every_request_is_counted_once_and_there_is_a_bound(requests, per_token, in_all):
    tally = Tally(per_token=per_token, in_all=in_all)
    for sender, token, kind in requests:
        see(tally, sender, token, kind=kind)
    dropped = sum(mark.kind is Kind.DROPPED for mark in tally)
    assert len(tally) - dropped <= in_all
    assert dropped <= 3
    written = taken(tally, 1e9)
    assert sum(one.count for one in written) == len(requests)
    again = Tally(per_token=per_token, in_all=in_all)
    again.load(written)
    assert len(again) == len(tally)
