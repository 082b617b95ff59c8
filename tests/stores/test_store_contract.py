"""What every store does alike: run on each of them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import open_store
from proxy.tokens import lifecycle
from proxy.tokens.book import TokenBook
from proxy.tokens.ports import Change, Conflict, Entry
from proxy.tokens.rotation import Rotation
from proxy.tokens.token import Token, TokenKind
from tests.tokens.play import after, committed, create, randomness, rotate


@pytest.fixture(params=["memory", "sqlite"])
def opened(request, tmp_path):
    """Another opening of the same store, as a second process has it."""
    if request.param == "memory":
        store = MemoryStore(time.time())
        yield lambda: store
        return
    stores = []

    def another():
        stores.append(open_store(tmp_path / "state" / "promgate.db"))
        return stores[-1]

    yield another
    for store in stores:
        store.close()


@pytest.fixture
def store(opened):
    return opened()


def test_a_new_store_is_empty(store):
    assert store.changes_since(0).tokens == ()
    assert store.changes_since(0).generation == 0
    assert (store.named("prom"), list(store.names()), store.find(b"\0" * 32)) == ((), [], None)


def test_a_rotation_that_keeps_apart_begins_in_no_minute_in_which_another_name_began(opened):
    store = opened()
    for number, name in enumerate(("a", "b", "c")):
        committed(store, name, now=float(number))

    def begin(name, now, *, keeps_apart=True):
        rotation = Rotation(f"{name}-{now}", name, store.named(name)[0].id, now, 60.0, current_at=now)
        entry = Entry(None, rotation, keeps_apart=keeps_apart)
        opened().commit(Change(name, store.named(name), (), entry))

    begin("a", 1000.0)
    with pytest.raises(Conflict, match="a rotation of a began less than a minute ago; b waits"):
        begin("b", 1059.9)
    assert store.story("b").rotations == ()
    begin("a", 1059.9)
    begin("c", 1060.0, keeps_apart=False)
    with pytest.raises(Conflict):
        begin("b", 1119.9)
    begin("b", 1120.0)


def test_a_store_says_when_it_was_made_for_good(opened):
    before, store = time.time(), opened()
    made_at = store.changes_since(0).made_at
    assert before - 5 < made_at <= time.time()
    for name in ("a", "b"):
        committed(store, name)
    assert [opened().changes_since(generation).made_at for generation in (0, 1, 2)] == [made_at] * 3


def test_what_was_written_is_read_by_another_to_the_last_bit(opened):
    issued = create("prom", now=1_700_000_000.123456, kind=TokenKind.READER, lifetime_s=86400.1)
    assert opened().commit(issued.change) == 1
    reader = opened()
    assert reader.named("prom") == after(issued)
    assert reader.find(after(issued)[0].digest) == after(issued)[0]
    assert reader.changes_since(0).tokens == after(issued)


def test_every_fact_is_kept(store):
    token = Token("aaaaaaaa", "prom", TokenKind.WRITE, b"\7" * 32, "sha256", 1.5, 2.5, 3.5, 4.5, 5.5)
    store.commit(Change("prom", (), (token,)))
    assert store.named("prom") == (token,)


def test_tokens_stand_in_the_order_of_minting_even_when_the_clock_went_back(store):
    committed(store, "prom", now=1000.0)
    store.commit(rotate("prom", store.named("prom"), now=500.0).change)
    assert [token.minted_at for token in store.named("prom")] == [1000.0, 500.0]


def test_names_are_sorted_and_each_stands_once(store):
    for name in ("b", "a", "C"):
        committed(store, name)
    store.commit(rotate("a", store.named("a"), now=1.0).change)
    assert list(store.names()) == ["C", "a", "b"]


def test_the_generation_rises_by_one_and_tells_what_changed(store):
    assert [committed(store, name) for name in ("a", "b", "c")] == [1, 2, 3]
    assert [token.name for token in store.changes_since(1).tokens] == ["b", "c"]
    store.commit(rotate("a", store.named("a"), now=1.0).change)
    changes = store.changes_since(3)
    assert changes.generation == 4
    assert changes.tokens == store.named("a")
    assert store.changes_since(4).tokens == ()
    assert len(store.changes_since(0).tokens) == 4


def test_a_transaction_that_the_store_does_not_hold_is_told_and_all_tokens_with_it(store):
    marks = [store.changes_since(0).mark]
    for name in ("a", "b"):
        committed(store, name)
        marks.append(store.changes_since(0).mark)
    assert len(set(marks)) == 3
    assert b"" not in marks
    for generation, mark in enumerate(marks):
        changes = store.changes_since(generation, mark)
        assert (changes.went_back, changes.mark, len(changes.tokens)) == (False, marks[2], 2 - generation)
    for generation, mark in ((0, marks[1]), (1, marks[2]), (2, b"another!"), (3, marks[2]), (3, b"")):
        changes = store.changes_since(generation, mark)
        assert (changes.went_back, changes.generation, len(changes.tokens)) == (True, 2, 2)


def test_what_counts_as_new_counts_so_for_good(opened):
    store = opened()
    made_at = store.changes_since(0).made_at
    store.count_as_new(made_at - 10)
    assert store.changes_since(0).made_at == made_at
    store.count_as_new(made_at + 10)
    assert opened().changes_since(0).made_at == made_at + 10


def test_a_book_that_follows_step_by_step_knows_what_one_knows_that_reads_all(store):
    follower, newcomer = TokenBook(), TokenBook()
    steps = [
        lambda: create("a", store.named("a"), now=0.0),
        lambda: create("b", store.named("b"), now=1.0),
        lambda: rotate("a", store.named("a"), now=2.0),
        lambda: lifecycle.revoke("b", store.named("b"), now=3.0),
        lambda: create("b", store.named("b"), now=4.0, random=randomness(4)),
        lambda: rotate("a", store.named("a"), now=5.0),
    ]
    for step in steps:
        decided = step()
        store.commit(getattr(decided, "change", decided))
        follower.apply(store.changes_since(follower.generation))
    newcomer.apply(store.changes_since(0))
    assert follower.tokens == newcomer.tokens
    assert len(newcomer) == 5


def test_the_second_of_two_who_decided_at_once_gets_a_conflict_and_changes_nothing(opened):
    ours, theirs = opened(), opened()
    committed(ours, "prom")
    first = rotate("prom", ours.named("prom"), now=1.0, random=randomness(1))
    second = rotate("prom", theirs.named("prom"), now=1.0, random=randomness(2))
    ours.commit(first.change)
    with pytest.raises(Conflict, match="token show prom"):
        theirs.commit(second.change)
    assert theirs.named("prom") == after(first)
    assert theirs.changes_since(0).generation == 2


def test_two_names_do_not_stand_in_each_others_way(opened):
    ours, theirs = opened(), opened()
    first, second = create("a"), create("b")
    ours.commit(first.change)
    theirs.commit(second.change)
    assert list(ours.names()) == ["a", "b"]


@pytest.mark.parametrize("twin", [{"digest": b"\1" * 32}, {"id": "bbbbbbbb"}])
def test_an_id_or_a_secret_that_exists_elsewhere_is_a_conflict(store, twin):
    committed(store, "a")
    (known,) = store.named("a")
    token = replace(known, name="b", **twin)
    with pytest.raises(Conflict, match="nothing was done to b"):
        store.commit(Change("b", (), (token,)))
    assert list(store.names()) == ["a"]
    assert store.changes_since(0).generation == 1


def unlawful(seen):
    """Changes that no rule makes: name -> put."""
    revoked, current = seen
    return {
        "a revocation taken back": (replace(revoked, revoked_at=None),),
        "a revocation moved": (replace(revoked, revoked_at=9.0),),
        "two current ones": (replace(current, id="cccccccc", digest=b"\3" * 32),),
        "another name": (replace(current, name="else"),),
        "another secret": (replace(current, digest=b"\3" * 32),),
        "another kind": (replace(current, kind=TokenKind.READER),),
    }


@pytest.mark.parametrize("what", list(unlawful(after(rotate("a", after(create("a")), now=1.0)))))
def test_an_unlawful_change_is_a_defect_and_is_not_written(store, what):
    committed(store, "prom")
    store.commit(rotate("prom", store.named("prom"), now=1.0).change)
    old = store.named("prom")[0]
    store.commit(lifecycle.revoke("prom", store.named("prom"), now=2.0, token_id=old.id))
    seen = store.named("prom")
    with pytest.raises(ValueError, match="prom"):
        store.commit(Change("prom", seen, unlawful(seen)[what]))
    assert store.named("prom") == seen
    assert store.changes_since(0).generation == 3


def test_of_many_threads_that_rotate_at_once_each_step_has_one_winner(opened):
    store = opened()
    committed(store, "prom")
    lost = []

    def rotate_ten_times(number):
        mine = opened()
        for step in range(10):
            random = randomness(f"{number} {step}")
            try:
                mine.commit(rotate("prom", mine.named("prom"), now=1.0, overlap_s=0.0, random=random).change)
            except Conflict:
                lost.append(step)

    threads = [threading.Thread(target=rotate_ten_times, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.named("prom")) == 41 - len(lost)
    assert store.changes_since(0).generation == 41 - len(lost)
