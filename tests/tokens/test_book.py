"""What the process knows of tokens: a revocation that it has seen is for good, whatever becomes of the store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.tokens.book import TokenBook
from proxy.tokens.ports import Changes
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
