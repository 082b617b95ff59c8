"""Every case file, sent in one piece and in hundreds of small ones, over real sockets against a real promgate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.case import Case, load_cases
from tests.attacks.play import play

CASES = [case for path in sorted((Path(__file__).parent / "cases").rglob("*.case")) for case in load_cases(path)]


#: A case whose point is that a part of it never arrives is sent one way only.
PLAYS = [(case, way) for case in CASES for way in ("whole", "split") if way == "whole" or not case.whole_only]


@pytest.mark.parametrize(("case", "delivery"), PLAYS, ids=[f"{case.name}-{way}" for case, way in PLAYS])
def test_case(case: Case, delivery: str, request: pytest.FixtureRequest) -> None:
    play(case, request.getfixturevalue(f"{case.server}_target"), split=delivery == "split")
