"""Names whose tokens the configuration lists: each use case shows them, and none changes them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.desk.ending import revoke, roll_back
from proxy.desk.finishing import finish
from proxy.desk.leaked import revoke_shown
from proxy.desk.listing import list_names, show
from proxy.desk.renewing import renew
from proxy.desk.rotating import create, rotate
from proxy.desk.senders import list_senders
from proxy.desk.status import status
from proxy.desk.verifying import verify_shown
from proxy.tokens.configured import build_configured
from proxy.tokens.ledger import Sighting
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.renewal import Caller
from proxy.tokens.secret import digest
from proxy.tokens.token import TokenKind
from tests.desk.play import RULES, Canary, Ledger, Stage

NEW, OLD = build_configured("edge", (digest(b"the new one"), digest(b"the old one")))
OTHER = build_configured("both", (digest(b"of both"),))


@pytest.fixture
def stage():
    made = Stage("file:agent", rules=replace(RULES, configured=(NEW, OLD, *OTHER), renewing=frozenset({"edge"})))
    create(made.desk(), "both", kind=TokenKind.WRITE)
    return made


def sighting(stage, token, address, ago):
    return Sighting("edge", token.id, address, address, "vmagent/1.126", stage.now - 3600, stage.now - ago, 900)


def test_they_are_listed_and_shown(stage):
    rows = list_names(stage.desk()).facts["tokens"]
    assert [(row["name"], row["source"], row["state"], row["previous"]) for row in rows] == [
        ("both", "store", "current", 0),
        ("both", "configuration", "current", 0),
        ("edge", "configuration", "current", 1),
    ]
    assert (rows[-1]["id"], rows[-1]["minted"], rows[-1]["previous_until"]) == (NEW.id, None, None)
    shown = show(stage.desk(), "edge").facts["tokens"]
    assert [(row["id"], row["state"], row["ends"]) for row in shown] == [
        (NEW.id, "current", None),
        (OLD.id, "previous", None),
    ]
    assert [row["source"] for row in show(stage.desk(), "both").facts["tokens"]] == ["store", "configuration"]
    assert show(stage.desk(), "nobody").why is Why.UNKNOWN


def test_status_says_who_still_shows_the_one_that_is_to_be_taken_away(stage):
    assert status(stage.desk(), "edge").notes == (
        f"edge: token {NEW.id} is current, by write_tokens of the configuration",
        f"edge: token {OLD.id} is accepted until it is taken out of write_tokens",
        "WAIT: the ledger cannot tell who uses what: nobody keeps one",
    )
    stage.ledger = Ledger(sighting(stage, NEW, "10.0.0.1", 1), sighting(stage, OLD, "10.0.0.2", 3))
    stage.ledger.as_known = replace(stage.ledger.as_known, since=stage.now - 7200)
    facts = status(stage.desk(), "edge").facts
    assert (facts["verdict"], facts["senders"], facts["moved"]) == ("WAIT", 2, 1)
    assert facts["reason"] == "1 of 2 senders still on the previous token: 10.0.0.2 vmagent/1.126, 3 s ago"
    stage.ledger.seen += (sighting(stage, NEW, "10.0.0.2", 1),)
    stage.now += 900
    assert status(stage.desk(), "edge").facts["verdict"] == "SAFE"
    assert len(list_senders(stage.desk(), "edge").facts["senders"]) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda desk: rotate(desk, "edge"),
        lambda desk: revoke(desk, "edge"),
        lambda desk: revoke(desk, "edge", token_id=OLD.id),
        lambda desk: roll_back(desk, "edge"),
        lambda desk: finish(desk, "edge", force=True),
    ],
)
def test_no_command_changes_them(stage, change):
    before = stage.applied
    refused = change(stage.desk())
    assert isinstance(refused, Refusal)
    assert "the tokens of edge stand in write_tokens of the configuration" in refused.text
    assert "and reload" in refused.text
    assert (stage.applied, list(stage.store.names())) == (before, ["both"])


def test_a_leaked_one_is_found_and_what_to_do_is_told(stage):
    stage.ledger = Ledger(sighting(stage, OLD, "10.0.0.2", 3))
    refused = revoke_shown(stage.desk(), b"the old one\n")
    assert refused.text.startswith(f"it is {OLD.id} of edge, in write_tokens of the configuration, and accepted: take")
    assert "(used by 10.0.0.2 (vmagent/1.126): 900 requests" in refused.text
    assert "the old one" not in refused.text


def test_a_revocation_says_what_it_does_not_end(stage):
    done = revoke(stage.desk(), "both")
    assert done.facts["revoked"] == [stage.tokens("both")[0].id]
    assert done.failure == (
        f"{OTHER[0].id} of both in write_tokens stays accepted until it is taken out of the file and that is reloaded"
    )
    assert revoke(stage.desk(), "both").why is Why.CONFLICT  # nothing is left to do


def test_a_rotation_says_so_too(stage):
    done = rotate(stage.desk(), "both")
    assert any(line.startswith(f"warning: {OTHER[0].id} of both in write_tokens stays") for line in done.notes)
    assert any("in write_tokens stays accepted" in line for line in status(stage.desk(), "both").notes)


def test_one_can_be_proven_and_is_not_renewed(stage):
    stage.canary = Canary()
    assert verify_shown(stage.desk(), "edge", b"the new one\n").notes == (f"edge: token {NEW.id} (current) works",)
    assert verify_shown(stage.desk(), "edge", b"the old one").notes[1] == "warning: it is not the current one any more"
    refused = renew(stage.desk(), "edge", NEW.id, Caller("10.0.0.1", "promgate-renew/0.1", ""))
    assert "which nobody renews" in refused.text
