"""Every case file, sent in one piece and in hundreds of small ones, over real sockets against a real promgate."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks.case import Case, load_cases
from tests.attacks.play import play

CASES = [case for path in sorted((Path(__file__).parent / "cases").rglob("*.case")) for case in load_cases(path)]


@pytest.mark.parametrize("delivery", ["whole", "split"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(case: Case, delivery: str, request: pytest.FixtureRequest) -> None:
    if delivery == "split" and case.whole_only:
        pytest.skip("its point is that a part of it never arrives")
    play(case, request.getfixturevalue(f"{case.server}_target"), split=delivery == "split")
