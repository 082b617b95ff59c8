"""Verify: which token is tried, and what is said of it."""

from __future__ import annotations

import pytest

from proxy.desk.desk import Report
from proxy.desk.verifying import verify
from proxy.tokens.secret import Secret
from tests.desk.play import Canary, Stage
from tests.tokens.play import DAY, HOUR, after, create, rotate


@pytest.fixture
def stage():
    made = Stage()
    made.canary = Canary()
    return made


def known(stage, **how):
    issued = create("prom", now=stage.now - DAY, **how)
    stage.store.commit(issued.change)
    return issued.secret


def test_a_token_that_works(stage):
    secret = known(stage)
    report = verify(stage.desk(), "prom", secret)
    assert isinstance(report, Report)
    assert report.notes == (f"prom: token {report.facts['token']} (current) works",)
    assert len(stage.canary.proved) == 1


def test_a_token_that_does_not(stage):
    secret = known(stage)
    stage.canary.fails = "route"
    assert "does not work: the canary failed at step route" in verify(stage.desk(), "prom", secret).text


def test_nothing_is_written(stage):
    secret = known(stage)
    before = stage.store.changes_since(0)
    verify(stage.desk(), "prom", secret)
    assert stage.store.changes_since(0) == before


def test_a_previous_token_works_and_its_end_is_told(stage):
    secret = known(stage)
    issued = rotate("prom", stage.store.named("prom"), now=stage.now, overlap_s=HOUR)
    stage.store.commit(issued.change)
    notes = verify(stage.desk(), "prom", secret).notes
    assert "(previous) works" in notes[0]
    assert notes[1].startswith("warning: it is not the current one any more, and ends at ")
    stage.now += 2 * HOUR
    assert "is retired: its sender is refused" in verify(stage.desk(), "prom", secret).text
    assert len(stage.canary.proved) == 1


def test_a_token_of_another_and_one_of_nobody(stage):
    secret = known(stage)
    other = create("other", now=0.0)
    stage.store.commit(other.change)
    assert after(other)
    assert verify(stage.desk(), "prom", other.secret).text.endswith("is no token of 'prom' but one of other")
    unknown = verify(stage.desk(), "prom", Secret("hunter2"))
    assert unknown.text.endswith("is no token of 'prom' but one that the store does not know")
    assert secret.reveal() not in unknown.text
    assert stage.canary.proved == []


def test_without_a_canary_there_is_nothing_to_send(stage):
    secret = known(stage)
    stage.canary = None
    assert verify(stage.desk(), "prom", secret).text == "there is no canary to send: configure tokens.canary"
