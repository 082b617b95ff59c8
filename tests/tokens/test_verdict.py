"""Who has moved to a new token, who has not, and that nothing is called safe that cannot be known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.tokens.ledger import Kind, Known, Sighting
from proxy.tokens.verdict import GONE_S, Verdict, Why, ago, handed_over_at, judge, patience_s
from tests.tokens.play import DAY, HOUR, after, create, rotate

HANDED = 1_000_000.0
NOW = HANDED + 600.0
SAFE, WAIT = Verdict.SAFE, Verdict.WAIT


def rotated(*at, overlap_s=DAY):
    """The tokens of a name that was rotated at these times."""
    seen = after(create("prom", now=HANDED - 10 * DAY))
    for one in at:
        seen = after(rotate("prom", seen, now=one, overlap_s=overlap_s))
    return seen


SEEN = rotated(HANDED)
OLD, NEW = (token.id for token in SEEN)


def shown(token, last, *, first=HANDED - HOUR, sender="a", kind=Kind.USED, gap=1.0, agent="vmagent/1.126"):
    """A sender that shows a token every `gap` seconds."""
    count = max(int((last - first) / gap) + 1, 1)
    return Sighting("prom", token, f"10.0.0.{sender} vmagent", f"10.0.0.{sender}", agent, first, last, count, kind)


def verdict(*sightings, seen=SEEN, since=HANDED - 5 * DAY, now=NOW, **how):
    return judge("prom", seen, Known(sightings, since), now, **how)


MOVED = (shown(OLD, HANDED + 3), shown(NEW, NOW, first=HANDED + 4))
B_MOVED = tuple(replace(one, sender="b", address="10.0.0.b") for one in MOVED)


def test_it_is_safe_when_all_have_moved_and_says_on_what_it_rests():
    judged = verdict(*MOVED, *B_MOVED)
    assert (judged.verdict, judged.senders, judged.moved, judged.stragglers) == (SAFE, 2, 2, ())
    assert judged.reason == (
        "all 2 senders that were seen in the last 5 d have moved, and the previous token was last shown 10 min ago; a "
        "sender that was silent all this time is not known"
    )


def test_who_is_still_on_the_previous_token_is_named():
    late = shown(OLD, NOW - 12, sender="7")
    judged = verdict(*MOVED, *B_MOVED, late)
    assert (judged.verdict, judged.senders, judged.moved) == (WAIT, 3, 2)
    assert judged.reason == "1 of 3 senders still on the previous token: 10.0.0.7 vmagent/1.126, 12 s ago"
    assert [(one.seen, one.why) for one in judged.stragglers] == [(late, Why.STILL)]


def test_a_nightly_sender_that_was_not_seen_since_is_waited_for():
    nightly = shown(OLD, HANDED - 9 * HOUR, first=HANDED - 3 * DAY, gap=DAY, sender="n", agent="")
    judged = verdict(*MOVED, nightly)
    assert judged.verdict is WAIT
    assert judged.reason == (
        "1 of 2 senders not seen since the rotation: 10.0.0.n without a User-Agent, 9 h ago"
    )


def test_who_was_not_seen_for_more_than_a_week_is_gone():
    gone = shown(OLD, NOW - GONE_S - 1, first=NOW - GONE_S - DAY, sender="g")
    judged = verdict(*MOVED, gone)
    assert (judged.verdict, judged.senders) == (SAFE, 1)


def test_two_behind_one_address_are_not_taken_for_one_that_moved():
    """One of them is on the new token; the other shows the old one each minute."""
    old = shown(OLD, NOW - 20, gap=60.0)
    new = shown(NEW, NOW, first=HANDED + 4)
    judged = verdict(old, new)
    assert (judged.verdict, [one.why for one in judged.stragglers]) == (WAIT, [Why.SETTLING])
    assert "1 of 1 senders moved just now: 10.0.0.a vmagent/1.126, 20 s ago" in judged.reason
    assert verdict(old, new, now=NOW + 5 * 60).verdict is SAFE


@pytest.mark.parametrize(
    ("count", "span", "patience"),
    [(1, 0.0, 300.0), (2, 1.0, 10.0), (11, 100.0, 50.0), (3, DAY, 900.0), (1000, 10.0, 10.0)],
)
def test_patience_follows_the_sender(count, span, patience):
    assert patience_s(Sighting("prom", OLD, "a", "a", "", 0.0, span, count)) == patience


def test_who_is_held_with_a_retired_token_is_waited_for_and_whoever_came_back_is_not():
    seen = rotated(HANDED, overlap_s=100.0)
    held = shown(OLD, NOW - 2, first=HANDED + 100, kind=Kind.HELD, sender="h")
    judged = verdict(*MOVED, held, seen=seen)
    assert judged.verdict is WAIT
    assert judged.reason == "1 of 2 senders held with a retired token: 10.0.0.h vmagent/1.126, 2 s ago"
    assert verdict(*MOVED, held, shown(NEW, NOW, first=NOW - 1, sender="h"), seen=seen).verdict is SAFE
    refused = replace(held, kind=Kind.REFUSED)
    assert verdict(*MOVED, refused, seen=seen).verdict is SAFE


def test_without_a_previous_token_there_is_nothing_to_wait_for():
    judged = verdict(*MOVED, seen=rotated(HANDED, overlap_s=100.0))
    assert (judged.verdict, judged.reason) == (SAFE, "no previous token of prom is accepted")


def test_a_name_rotated_twice_waits_for_the_senders_of_both():
    seen = rotated(HANDED, HANDED + 100)
    old, middle, new = (token.id for token in seen)
    on_middle = shown(middle, NOW - 1, first=HANDED + 4, sender="m")
    on_old = shown(old, NOW - 2, sender="o")
    judged = verdict(shown(new, NOW, first=HANDED + 101), on_middle, on_old, seen=seen)
    assert [one.seen.sender[:8] for one in judged.stragglers] == ["10.0.0.m", "10.0.0.o"]
    moved_on = shown(old, HANDED + 3, sender="m")
    judged = verdict(shown(new, NOW, first=HANDED + 101), on_middle, moved_on, seen=seen)
    assert [one.seen.token_id for one in judged.stragglers] == [middle]


def test_after_a_roll_back_the_senders_of_the_new_token_are_waited_for():
    old, new = SEEN
    back = (replace(old, accepted_until=None), replace(new, accepted_until=NOW + HOUR))
    assert handed_over_at(back[1], back) is None
    judged = verdict(shown(OLD, NOW), shown(NEW, NOW - 30, first=HANDED + 4, sender="b"), seen=back)
    assert [one.why for one in judged.stragglers] == [Why.STILL]
    returned = shown(OLD, NOW, sender="b")
    assert verdict(shown(NEW, NOW - 30, first=HANDED + 4, sender="b"), returned, seen=back).verdict is SAFE


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"trouble": "the disk is full"}, "the disk is full"),
        ({"since": HANDED + 60}, "the ledger was begun 9 min ago, after the rotation"),
    ],
)
def test_what_cannot_be_known_says_wait(how, reason):
    judged = verdict(*MOVED, **how)
    assert judged.verdict is WAIT
    assert judged.reason.startswith(reason)
    assert judged.senders == 1, "what is known is told all the same"


def test_a_ledger_that_cannot_be_read_says_wait():
    judged = judge("prom", SEEN, None, NOW, trouble="it is damaged")
    assert (judged.verdict, judged.senders) == (WAIT, 0)
    assert "it is damaged" in judged.reason


def test_senders_for_whom_there_was_no_room_may_be_anybody():
    dropped = Sighting("prom", OLD, "", "", "", HANDED - 9, HANDED - 3, 7, Kind.DROPPED)
    judged = verdict(*MOVED, dropped)
    assert judged.verdict is WAIT
    assert "no room for the senders of 7 requests" in judged.reason
    assert judged.senders == 1
    assert verdict(*MOVED, replace(dropped, token_id=NEW)).verdict is SAFE, "they have moved, whoever they are"


def test_a_rotation_that_has_not_ended_says_wait():
    pending = replace(SEEN[1], id="pendingx", current_from=None)
    assert "has not ended" in verdict(*MOVED, seen=(*SEEN, pending)).reason


def test_a_name_with_nothing_to_move_to_says_wait():
    old, new = SEEN
    judged = verdict(*MOVED, seen=(old, replace(new, revoked_at=NOW)))
    assert (judged.verdict, "token rotate prom" in judged.reason) == (WAIT, True)


def test_a_token_that_nobody_used_rests_on_the_ledger_alone():
    judged = verdict()
    assert judged.verdict is SAFE
    assert judged.reason.startswith("no sender was seen in the last 5 d, and the previous token was shown by nobody")


def test_a_target_that_took_the_previous_token_last_is_waited_for():
    """As after a roll back: its sender reads that token when it starts, though nobody was seen with it yet."""
    judged = verdict(held={"file:/etc/a": OLD, "file:/etc/b": NEW})
    assert judged.verdict is WAIT
    assert judged.reason == (
        "file:/etc/a took the previous token last; `promgate token rotate prom` delivers another one"
    )


def test_a_target_whose_sender_has_left_the_previous_token_was_given_another_one_by_hand():
    assert verdict(*MOVED, held={"file:/etc/a": OLD}).verdict is SAFE


def test_many_are_not_all_named():
    judged = verdict(*(shown(OLD, NOW - n, sender=str(n)) for n in range(1, 9)))
    assert judged.reason.startswith("8 of 8 senders still on the previous token: 10.0.0.1 vmagent/1.126, 1 s ago; ")
    assert judged.reason.endswith("10.0.0.5 vmagent/1.126, 5 s ago and 3 more")
    assert len(judged.stragglers) == 8


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (12.4, "12 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"), (8 * DAY, "8 d")],
)
def test_a_time_is_told_in_one_word(seconds, text):
    assert ago(seconds) == text
