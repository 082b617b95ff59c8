"""Every way in which a trail can be tampered with, one at a time, is found and named."""

from __future__ import annotations

import fcntl

import pytest

from proxy.audit.record import build_line, hash_line
from proxy.audit.trail import Trail, head_beside
from proxy.audit.verify import Noted, verify
from proxy.tokens.ports import StoreError


@pytest.fixture
def trail(tmp_path):
    trail = Trail(tmp_path / "audit.jsonl", head_beside(tmp_path / "promgate.db"))
    for name in "abcdefgh":
        trail.append({"action": "revoke", "name": name})
    return trail


def lines_of(trail):
    return trail.file.read_bytes().splitlines(keepends=True)


def tampered(trail, change):
    lines = lines_of(trail)
    trail.file.write_bytes(b"".join(change(lines)))
    return verify(trail).problems


def edited(lines, at):
    lines[at] = lines[at].replace(b"revoke", b"rotate")
    return lines


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda lines: lines[:3] + lines[4:], "1 record before record 5 missing", id="one deleted"),
        pytest.param(lambda lines: lines[:2] + lines[5:], "3 records before record 6 missing", id="some deleted"),
        pytest.param(lambda lines: edited(lines, 4), "record 5 is not the one that record 6", id="edited"),
        pytest.param(lambda lines: edited(lines, 0), "record 1 is not the one that record 2", id="the first edited"),
        pytest.param(lambda lines: edited(lines, 7), "the last record, 8, is not as it was", id="the last edited"),
        pytest.param(lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "moved or put in", id="two swapped"),
        pytest.param(lambda lines: [*lines[:4], lines[2], *lines[4:]], "moved or put in", id="one copied"),
        pytest.param(lambda lines: lines[:-1], "ends with record 7, and record 8 was written", id="the last cut off"),
        pytest.param(lambda lines: lines[:2], "ends with record 2, and record 8 was written", id="the end cut off"),
        pytest.param(lambda _: [], "nothing is there, and record 8 was written", id="emptied"),
        pytest.param(lambda lines: [*lines[:4], b"# note\n", *lines[4:]], ":5: this is no record", id="a line put in"),
        pytest.param(lambda lines: [*lines[:4], b"x" * 200_000, *lines[4:]], "no record", id="a long line put in"),
        pytest.param(lambda lines: [line.replace(b"\n", b"\r\n") for line in lines], "edited", id="line ends changed"),
        pytest.param(lambda lines: [*lines[:6], lines[6][:-20]], "cut off at the end", id="cut in a record"),
    ],
)
def test_what_was_done_to_it_is_found(trail, change, told):
    problems = tampered(trail, change)
    assert any(told in problem for problem in problems), problems
    assert str(trail.file) in problems[0]


def test_a_tail_made_anew_does_not_fit_the_head(trail):
    """Whoever may write the log, and not beside the store, can build a chain; but its end is known."""
    lines = lines_of(trail)[:5]
    for seq in (6, 7, 8):
        lines.append(build_line(seq, hash_line(lines[-1]), 0.0, {"action": "revoke", "name": "x"}))
    trail.file.write_bytes(b"".join(lines))
    assert verify(trail).problems == [f"{trail.file}: the last record, 8, is not as it was written: edited"]


def test_records_after_the_head_are_found(trail):
    lines = lines_of(trail)
    for seq in (9, 10):
        lines.append(build_line(seq, hash_line(lines[-1]), 0.0, {}))
    trail.file.write_bytes(b"".join(lines))
    (problem,) = verify(trail).problems
    assert "what stands after record 8" in problem


def test_a_file_removed_from_between_is_found(trail):
    trail.file.rename(trail.file.with_name("audit.jsonl.1"))
    trail.append({"name": "i"})
    middle = trail.file.rename(trail.file.with_name("audit.jsonl.2"))
    trail.append({"name": "j"})
    assert verify(trail).problems == []
    middle.unlink()
    (problem,) = verify(trail).problems
    assert "1 record before record 10 missing" in problem


def test_a_lock_that_somebody_holds_is_not_waited_for_without_end(trail):
    with trail.head_file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"another process holds the audit.*is one stopped \(`fuser"):
            verify(trail, patience_s=0.1)
    assert verify(trail).problems == []


def test_a_trail_that_is_gone_is_found(trail):
    trail.file.unlink()
    (problem,) = verify(trail).problems
    assert "nothing is there, and record 8 was written" in problem


def test_all_of_it_made_anew_does_not_fit_what_was_noted_elsewhere(trail, tmp_path):
    last = verify(trail).last
    noted = Noted(last.seq, last.hash)
    trail.append({"name": "i"})
    assert verify(trail, noted).problems == []
    trail.file.unlink()
    trail.head_file.unlink()
    for name in "abcdefghi":
        trail.append({"action": "revoke", "name": name})
    assert verify(trail).problems == []
    (problem,) = verify(trail, noted).problems
    assert "record 8 is not here as it was noted" in problem


def test_nothing_recorded_yet_is_whole(tmp_path):
    verdict = verify(Trail(tmp_path / "audit.jsonl", tmp_path / "head"))
    assert (verdict.problems, verdict.records) == ([], 0)


def test_files_beside_it_that_are_none_of_ours_are_named(trail):
    trail.file.with_name("audit.jsonl.txt").write_text("notes of the operator\n")
    verdict = verify(trail)
    assert verdict.problems == []
    assert any("audit.jsonl.txt begins with no record" in note for note in verdict.notes)


def test_an_edit_of_everything_is_told_in_few_words(trail):
    for _ in range(100):
        trail.append({"name": "x"})
    problems = tampered(trail, lambda lines: [edited([line], 0)[0].replace(b"x", b"y") for line in lines])
    assert len(problems) == 21
    assert problems[-1] == "and more"
