"""An older copy in the place of the store: what the server saw revoked is revoked in the copy, and on record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.desk.restored import Restored, look_back
from proxy.tokens.book import TokenBook
from proxy.tokens.ledger import Kind, Mark
from proxy.tokens.ports import Changes, Conflict
from tests.desk.play import Stage
from tests.tokens.play import committed


class Site:
    """A server that saw the second of two names revoked, and a copy of the store that knows nothing of it."""

    def __init__(self):
        self.stage = Stage()
        for name in ("a", "b"):
            committed(self.stage.store, name)
        self.book = TokenBook()
        self.chore = Restored(self.book)
        self.lost = replace(self.stage.store.named("b")[0], revoked_at=7.0, held_until=8.0)
        self.book.apply(Changes(9, (*self.stage.store.named("a"), self.lost), mark=b"nine"))

    def follow(self):
        self.book.apply(self.stage.store.changes_since(self.book.generation, self.book.mark))


@pytest.fixture
def site():
    return Site()


def test_nothing_is_done_while_the_store_is_what_it_was(site):
    before, sign = site.stage.store.changes_since(0), site.chore.sign()
    assert site.chore(site.stage.desk()) is None
    assert site.stage.store.changes_since(0) == before
    site.follow()
    assert site.chore.sign() != sign


def test_what_was_revoked_is_revoked_in_the_copy_and_it_counts_as_new(site):
    site.follow()
    assert site.chore(site.stage.desk()) > site.stage.now
    assert site.stage.store.named("b") == (site.lost,)
    assert site.stage.store.named("a")[0].revoked_at is None
    assert site.stage.store.changes_since(0).made_at == site.stage.now
    site.stage.now += 60
    site.follow()
    assert site.chore(site.stage.desk()) is None
    assert site.stage.store.changes_since(0).made_at == site.stage.now - 60, "once"


def test_it_is_tried_again_when_another_process_was_faster(site, monkeypatch):
    def refuse(_):
        raise Conflict("another process")

    site.follow()
    desk = site.stage.desk()
    with monkeypatch.context() as patch:
        patch.setattr(site.stage.store, "commit", refuse)
        assert site.chore(desk) > site.stage.now
    assert site.chore(desk) > site.stage.now
    assert site.stage.store.named("b") == (site.lost,)


def seen(token_id, kind=Kind.USED, at=5.0):
    mark = Mark("a", token_id, kind, "x", "10.0.0.1", "", at)
    mark.last_seen = at
    return mark


def test_a_start_on_a_store_that_the_ledger_agrees_with_says_nothing(site, caplog):
    (token,) = site.stage.store.named("a")
    gone = seen("sha256:0123456789ab")  # it was taken out of the configuration, of which a copy says nothing
    ledger = [seen(token.id), seen(site.lost.id, Kind.REFUSED), gone]
    look_back(site.stage.store, site.book, ledger, site.stage.now, 60.0)
    assert caplog.records == []
    assert site.stage.store.changes_since(0).made_at == 0.0


def test_a_start_on_an_older_copy_is_told_by_what_the_ledger_knows(site, caplog):
    (token,) = site.stage.store.named("a")
    ledger = [seen("unknown1"), seen("unknown1", at=3.0), seen(token.id, Kind.REFUSED)]
    look_back(site.stage.store, site.book, ledger, site.stage.now, 60.0)
    new, lost, doubtful = caplog.messages
    assert "for 60 s more" in new
    assert "does not hold (unknown1 of a)" in lost
    assert f"accepted now ({token.id} of a)" in doubtful
    assert site.stage.store.changes_since(0).made_at == site.stage.now
    site.book.made_at = site.stage.now
    look_back(site.stage.store, site.book, ledger, site.stage.now + 99, 60.0)
    assert site.stage.store.changes_since(0).made_at == site.stage.now, "the senders are held once, not at each start"
