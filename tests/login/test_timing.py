from __future__ import annotations

from tests.login.timing import measure


def test_an_unknown_user_costs_as_many_hashes(record_property):
    """The time itself is reported and not judged: `python -m tests.login.timing` shows it."""
    ratio = measure(3, cost=4)
    record_property("wrong login, known to unknown user", str(ratio))
    assert ratio.known_hashes == ratio.unknown_hashes == 1
    assert ratio.known_s > 0 < ratio.unknown_s
