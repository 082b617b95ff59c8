"""What the process knows of tokens: a revocation that it has seen is for good, whatever becomes of the store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.tokens.book import TokenBook
from proxy.tokens.configured import build_configured, find_in_both, is_configured
from proxy.tokens.ports import Changes
from proxy.tokens.token import TokenState, ended_at, is_accepted, state_at
from tests.tokens.play import after, create, rotate

OLD, NEW = after(rotate("a", after(create("a")), now=1.0))
GONE = replace(OLD, revoked_at=2.0, held_until=9.0)


@pytest.fixture
def book():
    made = TokenBook()
    made.apply(Changes(3, (GONE, NEW), mark=b"three"))
    return made


def test_no_news_take_a_revocation_back(book):
    later = replace(OLD, accepted_until=77.0)
    assert book.apply(Changes(4, (later,), mark=b"four")) == frozenset()
    assert book.find(OLD.digest) == replace(later, revoked_at=2.0, held_until=9.0)
    assert (book.generation, book.mark, book.undone) == (4, b"four", None)


def test_of_a_store_that_went_back_revocations_alone_are_believed(book):
    other = after(create("b"))[0]
    ended = replace(NEW, revoked_at=5.0, accepted_until=1.0)
    went_back = Changes(2, (OLD, ended, other), made_at=7.0, mark=b"two", went_back=True)
    assert book.apply(went_back) == {NEW.id}
    assert book.tokens == {OLD.digest: GONE, NEW.digest: replace(NEW, revoked_at=5.0)}
    assert book.undone == (GONE,)
    assert (book.generation, book.mark, book.made_at) == (3, b"three", 0.0)
    assert book.apply(replace(went_back, tokens=(GONE, ended, other))) == frozenset()
    assert book.undone == ()


# what the configuration lists, beside the store

FIRST, SECOND = build_configured("edge", (b"1" * 32, b"2" * 32))


def test_the_first_that_is_listed_is_current_and_nothing_ends_the_others():
    assert [state_at(one, 1e12) for one in (FIRST, SECOND)] == [TokenState.CURRENT, TokenState.PREVIOUS]
    assert all(is_accepted(one, 1e12) and ended_at(one) is None for one in (FIRST, SECOND))
    assert FIRST.id == "sha256:313131313131"
    assert is_configured(FIRST.id)
    assert not is_configured(OLD.id)


def test_what_is_listed_is_known_beside_the_store_and_is_not_of_it(book):
    assert book.configure((FIRST, SECOND), 10.0, 60.0) == frozenset()
    assert (book.find(FIRST.digest), book.find(SECOND.digest), book.find(NEW.digest)) == (FIRST, SECOND, NEW)
    assert len(book) == 2  # a store may be empty beside it
    book.apply(Changes(4, (), mark=b"four"))
    assert book.find(FIRST.digest) == FIRST


def test_what_is_listed_no_more_retires_then_and_is_forgotten_once_it_is_not_held(book):
    book.configure((FIRST, SECOND), 10.0, 60.0)
    assert book.configure((FIRST,), 20.0, 60.0) == {SECOND.id}
    gone = book.find(SECOND.digest)
    assert (state_at(gone, 20.0), ended_at(gone)) == (TokenState.RETIRED, 20.0)
    assert book.configure((FIRST,), 79.0, 60.0) == frozenset()
    assert book.find(SECOND.digest) == gone  # another reload moves no time
    assert book.configure((FIRST,), 80.0, 60.0) == frozenset()
    assert book.find(SECOND.digest) is None
    assert book.find(FIRST.digest) == FIRST


def test_what_is_listed_again_is_as_new(book):
    book.configure((FIRST,), 10.0, 60.0)
    book.configure((), 20.0, 60.0)
    assert book.configure((FIRST,), 30.0, 60.0) == frozenset()
    assert book.find(FIRST.digest) == FIRST


@pytest.mark.parametrize("first", ["store", "configuration"])
def test_of_a_digest_that_both_have_the_store_is_believed(first):
    twin = build_configured("a", (OLD.digest,))
    book = TokenBook()
    steps = [lambda: book.apply(Changes(3, (GONE, NEW))), lambda: book.configure(twin, 10.0, 60.0)]
    for step in steps if first == "store" else reversed(steps):
        step()
    assert book.find(OLD.digest) == GONE  # revoked: no file takes that back
    book.configure((), 20.0, 60.0)
    assert book.find(OLD.digest) == GONE


def test_what_both_have_is_told():
    mine = (*build_configured("a", (b"1" * 32,)), *build_configured("edge", (OLD.digest,)))
    assert find_in_both(mine, (*mine, OLD, NEW)) == [
        "a has tokens in the store too: a rotation or revocation there does not end what is listed here",
        f"{mine[1].id} of edge is token {OLD.id} of a in the store, and what stands there counts",
    ]
    ended = [replace(one, revoked_at=1.0) for one in (OLD, NEW)]
    assert find_in_both(mine[:1], (*mine, *ended)) == []
    assert find_in_both(mine, mine) == []
