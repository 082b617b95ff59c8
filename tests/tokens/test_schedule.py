"""When a rotation is due: tables in UTC, and what holds of every window."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens.ports import Story
from proxy.tokens.rotation import FIRST_RETRY_S, MAX_RETRY_S, Rotation
from proxy.tokens.schedule import LATE_S, Due, Period, Window, choose, due, opens_at
from tests.tokens.play import DAY, HOUR, after, create, rotate

OFFICE = Window(frozenset({1, 2}), 9 * HOUR, 16 * HOUR)
NIGHT = Window(frozenset({4}), 22 * HOUR, 4 * HOUR)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "asked", "opens"),
    [
        # 2026-11-24 is a Tuesday.
        (OFFICE, "2026-11-24T08:59:59", "2026-11-24T09:00:00"),
        (OFFICE, "2026-11-24T09:00:00", "2026-11-24T09:00:00"),
        (OFFICE, "2026-11-24T15:59:59", "2026-11-24T15:59:59"),
        (OFFICE, "2026-11-24T16:00:00", "2026-11-25T09:00:00"),
        (OFFICE, "2026-11-25T16:00:00", "2026-12-01T09:00:00"),
        (NIGHT, "2026-11-24T12:00:00", "2026-11-27T22:00:00"),
        (NIGHT, "2026-11-28T03:59:59", "2026-11-28T03:59:59"),
        (NIGHT, "2026-11-28T04:00:00", "2026-12-04T22:00:00"),
        (NIGHT, "2026-11-28T22:00:00", "2026-12-04T22:00:00"),
        (Window(), "2026-11-24T12:34:56", "2026-11-24T12:34:56"),
        (Window(frozenset({0})), "2026-11-24T00:00:00", "2026-11-30T00:00:00"),
    ],
)
def test_windows(window, asked, opens):
    assert opens_at(window, at(asked)) == at(opens)


@given(
    days=st.frozensets(st.integers(0, 6), min_size=1),
    start=st.integers(0, 1439),
    end=st.integers(0, 1440),
    moment=st.floats(0, 4e9),
)
def test_a_window_opens_within_a_week_and_is_open_when_it_says_so(days, start, end, moment):
    window = Window(days, start * 60.0, end * 60.0)
    opens = opens_at(window, moment)
    assert moment <= opens <= moment + 8 * DAY
    assert opens_at(window, opens) == opens
    moment = datetime.fromtimestamp(opens, UTC)
    minute = moment.hour * 60 + moment.minute
    over_midnight = end <= start and minute < start
    assert (moment.weekday() - over_midnight) % 7 in days
    assert (minute - start) % 1440 < ((end - start) % 1440 or 1440)


def story(tokens, *rotations):
    return Story("prom", tokens, rotations)


def rotation(**changed):
    return replace(Rotation("r", "prom", "x", 0.0, HOUR), **changed)


NINETY = Period(90 * DAY)


def test_a_token_is_due_a_period_after_it_became_current():
    seen = after(create("prom", now=100.0))
    assert due(story(seen), NINETY, 200.0) == Due("prom", 100.0 + 90 * DAY)
    seen = after(rotate("prom", seen, now=500.0))
    assert due(story(seen), NINETY, 600.0) == Due("prom", 500.0 + 90 * DAY)


def test_the_jitter_makes_each_token_due_at_its_own_time_and_always_the_same():
    dues = set()
    for number in range(200):
        seen = after(create(f"n{number}", now=0.0))
        when = due(Story(f"n{number}", seen), Period(90 * DAY, 10 * DAY), 1.0).at
        assert 80 * DAY < when <= 90 * DAY
        assert due(Story(f"n{number}", seen), Period(90 * DAY, 10 * DAY), 2.0).at == when
        dues.add(when // DAY)
    assert len(dues) == 10


def test_nothing_is_due_without_a_current_token_or_while_a_rotation_is_open():
    seen = after(create("prom", now=0.0, lifetime_s=DAY))
    assert due(story(()), NINETY, 0.0) is None
    assert due(story(seen), NINETY, 2 * DAY) is None
    assert due(story(seen, rotation()), NINETY, 1.0) is None


def test_who_rolls_back_has_a_period_of_rest():
    seen = after(create("prom", now=0.0))
    back = rotation(current_at=90 * DAY, rolled_back_at=91 * DAY)
    assert due(story(seen, back), NINETY, 91 * DAY).at == 181 * DAY
    given_up = rotation(failed_at=90 * DAY, given_up_at=91 * DAY)
    assert due(story(seen, given_up), NINETY, 91 * DAY).at == 181 * DAY


def test_a_canary_that_dies_is_sent_again_later_each_time():
    seen = after(create("prom", now=0.0))
    waits = []
    for failed in range(1, 12):
        dead = [rotation(failed_at=91 * DAY, given_up_at=91 * DAY)] * failed
        waits.append(due(story(seen, *dead), NINETY, 91 * DAY).at - 91 * DAY)
    assert waits[:3] == [FIRST_RETRY_S, 2 * FIRST_RETRY_S, 4 * FIRST_RETRY_S]
    assert waits[-1] == MAX_RETRY_S


def test_the_one_that_waits_longest_goes_first_and_never_two_names_in_a_minute():
    dues = [Due("late", 50.0), Due("later", 10.0), Due("not yet", 1000.0)]
    assert choose(dues, [], 100.0) == Due("later", 10.0)
    began = [Rotation("r", "another", "x", 70.0, HOUR)]
    assert choose(dues, began, 100.0) is None
    assert choose(dues, began, 130.0) == Due("later", 10.0)
    assert choose(dues, [Rotation("r", "late", "x", 70.0, HOUR)], 100.0) == Due("late", 50.0), "itself is no other name"
    assert choose(dues, [Rotation("r", "another", "x", 4000.0, HOUR)], 100.0) is not None, "the clock was set back"
    assert choose([], [], 100.0) is None


def test_overdue_is_an_hour_past_the_time_at_which_it_might_have_begun():
    assert not Due("prom", 10.0).is_overdue(10.0 + LATE_S - 1)
    assert Due("prom", 10.0).is_overdue(10.0 + LATE_S)
