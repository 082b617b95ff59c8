"""The file and its head: who was ended, or renamed the file, loses nothing; who cut it or made another is found out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxy.audit import trail as trail_module
from proxy.audit.record import read_line
from proxy.audit.trail import Trail, head_beside
from proxy.audit.verify import Noted, verify
from proxy.tokens.ports import StoreError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def trail(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "log").mkdir()
    return Trail(tmp_path / "log" / "audit.jsonl", head_beside(tmp_path / "state" / "promgate.db"))


def write(trail, *names):
    return [trail.append({"action": "rotate", "name": name}) for name in names]


def records(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def is_whole(trail):
    return verify(trail).problems == []


def test_records_are_numbered_chained_and_for_us_alone(trail):
    assert write(trail, "a", "b", "c") == [1, 2, 3]
    assert [(one["seq"], one["name"]) for one in records(trail.file)] == [(1, "a"), (2, "b"), (3, "c")]
    assert {file.stat().st_mode & 0o777 for file in (trail.file, trail.head_file)} == {0o600}
    assert trail.head_file.name == "promgate.db-audit"
    assert is_whole(trail)
    assert [one["name"] for one in trail.newest(2)] == ["c", "b"]


def test_the_state_directory_is_made_with_the_first_record(trail):
    """A store is made by its first change, and that is on record before."""
    trail.head_file.parent.rmdir()
    assert write(trail, "a") == [1]
    assert trail.head_file.parent.stat().st_mode & 0o777 == 0o700
    assert is_whole(trail)


def test_a_renamed_file_goes_on_in_a_new_one(trail):
    """logrotate, with `create` or without."""
    write(trail, "a", "b")
    trail.file.rename(trail.file.with_name("audit.jsonl.1"))
    assert is_whole(trail)
    write(trail, "c")
    trail.file.rename(trail.file.with_name("audit.jsonl-20231114"))
    trail.file.touch(mode=0o640)
    trail.file.chmod(0o640)
    assert write(trail, "d", "e") == [4, 5]
    verdict = verify(trail)
    assert (verdict.problems, verdict.records, verdict.first, verdict.last.seq) == ([], 5, 1, 5)
    assert trail.file.stat().st_mode & 0o777 == 0o640


def test_a_compressed_file_is_read_and_an_old_one_may_be_gone(trail):
    write(trail, "a", "b")
    old = trail.file.rename(trail.file.with_name("audit.jsonl.2"))
    write(trail, "c")
    trail.file.rename(trail.file.with_name("audit.jsonl.1"))
    write(trail, "d")
    subprocess.run(["gzip", old], check=True)
    assert (verify(trail).records, verify(trail).problems) == (4, [])
    old.with_name("audit.jsonl.2.gz").unlink()
    (problem,) = verify(trail).problems
    assert "begins with record 3" in problem
    (first, _) = read_line(trail.file.with_name("audit.jsonl.1").read_bytes())
    assert verify(trail, Noted(2, first.prev)).problems == [], "what was verified once may be removed"
    assert verify(trail, Noted(first.seq, first.hash)).problems == []
    assert verify(trail, Noted(2, "0" * 64)).problems != []


def test_a_file_that_was_cut_is_not_written_to(trail):
    """logrotate's copytruncate."""
    write(trail, "a", "b")
    shutil.copy(trail.file, trail.file.with_name("audit.jsonl.1"))
    os.truncate(trail.file, 0)
    with pytest.raises(StoreError, match="copytruncate"):
        write(trail, "c")
    assert trail.file.stat().st_size == 0
    trail.file.rename(trail.file.with_name("audit.jsonl.odd"))
    assert write(trail, "c") == [3]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_file_that_lost_its_end_is_not_written_to_until_it_is_moved_away(trail, kept):
    write(trail, "a", "b", "c")
    lines = trail.file.read_bytes().splitlines(keepends=True)
    other = trail.file.with_name("other")
    other.write_bytes(b"".join(lines[:kept]) or b"hello\n")
    other.chmod(0o600)
    other.replace(trail.file)
    with pytest.raises(StoreError, match=r"does not end with record 3.*mv "):
        write(trail, "d")
    with pytest.raises(StoreError, match="does not end with record 3"):
        trail.check()
    assert "record 3" in trail.trouble
    trail.file.rename(trail.file.with_name("audit.jsonl.odd"))
    assert write(trail, "d") == [4]
    assert trail.trouble == ""
    assert not is_whole(trail), "what is missing is found for good"


def test_a_copy_of_the_whole_file_goes_on(trail, tmp_path):
    """A restored backup has another inode."""
    write(trail, "a", "b")
    shutil.copy2(trail.file, tmp_path / "copy")
    (tmp_path / "copy").replace(trail.file)
    assert write(trail, "c") == [3]
    assert is_whole(trail)


def test_a_record_that_its_head_does_not_know_is_taken_in(trail):
    """kill -9 between the two."""
    write(trail, "a", "b", "c")
    head = trail.head_file.read_bytes()
    write(trail, "d")
    trail.head_file.write_bytes(head)
    verdict = verify(trail)
    assert (verdict.problems, verdict.records) == ([], 4)
    assert any("last act" in note for note in verdict.notes)
    assert write(trail, "e") == [5]
    assert is_whole(trail)


def test_a_piece_of_a_record_is_removed(trail):
    write(trail, "a")
    with trail.file.open("ab") as file:
        file.write(b'{"seq":2,"at":"2023')
    assert is_whole(trail)
    assert write(trail, "b") == [2]
    assert [one["name"] for one in records(trail.file)] == ["a", "b"]
    assert is_whole(trail)


def test_two_records_behind_the_head_are_somebody_s(trail):
    write(trail, "a")
    head = trail.head_file.read_bytes()
    write(trail, "b", "c")
    trail.head_file.write_bytes(head)
    assert not is_whole(trail)
    with pytest.raises(StoreError, match="does not end with record 1"):
        write(trail, "d")


def test_a_head_that_is_gone_is_told_in_the_trail(trail):
    write(trail, "a", "b")
    trail.head_file.unlink()
    assert not is_whole(trail)
    assert write(trail, "c") == [4]
    assert [one.get("outcome") for one in records(trail.file)] == [None, None, "resumed", None]
    assert is_whole(trail)


@pytest.mark.parametrize("at", [0, 192])
def test_a_torn_head_leaves_the_other_slot(trail, at):
    write(trail, "a", "b", "c")
    with trail.head_file.open("r+b") as file:
        file.seek(at)
        file.write(b"\0" * 20)
    newest = at == 192  # record 3 is in the second slot
    assert is_whole(trail)
    assert write(trail, "d") == [4]
    assert is_whole(trail), newest


def test_what_others_may_open_or_is_no_file_is_refused(trail, tmp_path):
    write(trail, "a")
    trail.file.chmod(0o604)
    with pytest.raises(StoreError, match="chmod o-rwx"):
        write(trail, "b")
    trail.file.unlink()
    trail.file.mkdir()
    with pytest.raises(StoreError, match=r"audit\.jsonl: the audit cannot be written \(Is a directory\)"):
        write(trail, "b")
    trail.file.rmdir()
    trail.file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="the audit cannot be written"):
        write(trail, "b")
    assert not (tmp_path / "elsewhere").exists()
    trail.file.unlink()
    os.mkfifo(trail.file, 0o600)
    with pytest.raises(StoreError, match="is not a file"):
        write(trail, "b")


def test_a_directory_that_is_gone_is_named_and_told_once(trail, caplog):
    caplog.set_level("INFO")
    trail.file.parent.rmdir()
    for _ in range(2):
        with pytest.raises(StoreError, match="No such file or directory"):
            write(trail, "a")
    trail.file.parent.mkdir()
    write(trail, "a")
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert {sample.metric.name: sample.value for sample in trail.samples()} == {
        "promgate_audit_records_total": 1,
        "promgate_audit_failures_total": 2,
        "promgate_audit_writable": 1,
        "promgate_audit_owed": 0,
    }


def test_who_was_stopped_in_the_middle_keeps_nobody_waiting_for_ever(trail):
    write(trail, "a")
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(trail.head_file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(StoreError, match="another process holds the audit"):
            trail.append({"action": "rotate", "name": "b"}, 0.2)
        other.send_signal(signal.SIGKILL)
    assert write(trail, "b") == [2]


def test_threads_and_processes_write_in_turn(trail):
    code = (
        "import sys; from pathlib import Path; from proxy.audit.trail import Trail\n"
        "trail = Trail(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "for turn in range(40): trail.append({'name': f'{sys.argv[3]}-{turn}'})"
    )
    command = [sys.executable, "-c", code, str(trail.file), str(trail.head_file)]
    others = [subprocess.Popen([*command, name], cwd=ROOT) for name in "xyz"]
    threads = [threading.Thread(target=write, args=(trail, *[f"{at}-{turn}" for turn in range(20)])) for at in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait(60) for other in others] == [0, 0, 0]
    verdict = verify(trail)
    assert (verdict.problems, verdict.notes, verdict.records) == ([], [], 180)
    names = [one["name"] for one in records(trail.file)]
    for mine in ("x", "y", "z", "0", "1", "2"):
        turns = [int(name.split("-")[1]) for name in names if name.startswith(f"{mine}-")]
        assert turns == sorted(turns)


def test_the_view_is_bounded(trail, monkeypatch):
    monkeypatch.setattr(trail_module, "_MAX_VIEW", 600)
    assert trail.newest(5) == []
    write(trail, *"abcdefghij")
    shown = trail.newest(50)
    assert 2 < len(shown) < 6
    assert [one["name"] for one in shown[:2]] == ["j", "i"]
