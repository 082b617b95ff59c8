"""The key ring of logins under way: what it opens, for how long, and how it is kept (5-threats O1, X2, K4)."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys

import pytest

from proxy.login.seal import ROTATE_AFTER_S, Seal, SealError, keys_beside

NOW = 1_700_000_000.0
MEMORY = {"provider": "oidc", "state": "s" * 43, "nonce": "n" * 43, "verifier": "v" * 43}


@pytest.fixture
def file(tmp_path):
    return keys_beside(tmp_path / "promgate.db")


def keys_in(file):
    return json.loads(file.read_text())["keys"]


@pytest.fixture(params=["in memory", "in a file"])
def seal(request, file):
    return Seal(file if request.param == "in a file" else None)


def test_o1_ten_minutes(seal):
    text = seal.seal(MEMORY, NOW)
    assert seal.open(text, NOW) == MEMORY
    assert seal.open(text, NOW + 600) == MEMORY
    assert seal.open(text, NOW + 601) == {}
    assert MEMORY["verifier"] not in text
    assert len(text) < 1024
    assert seal.seal(MEMORY, NOW) != text


def test_o12_tampered(seal):
    text = seal.seal(MEMORY, NOW)
    for index in range(len(text)):
        other = "B" if text[index] == "A" else "A"
        if text[index] == "=":
            continue
        assert seal.open(text[:index] + other + text[index + 1 :], NOW) in ({}, MEMORY)  # unused bits of base64
    assert seal.open(text[:-5], NOW) == {}


@pytest.mark.parametrize("text", ["", "x", "gAAAA", "\x00", "ä", "\ud800", "a" * 5000, "=" * 10, "gAAAAA" * 100])
def test_o12_what_was_not_sealed(seal, text):
    seal.prepare(NOW)
    assert seal.open(text, NOW) == {}


def test_of_another_process(file, tmp_path):
    assert Seal().open(Seal().seal(MEMORY, NOW), NOW) == {}
    other = Seal(tmp_path / "other")
    other.prepare(NOW)
    assert other.open(Seal(file).seal(MEMORY, NOW), NOW) == {}


def test_nothing_opens_before_there_are_keys(file):
    assert Seal(file).open("gAAAA", NOW) == {}
    assert not file.exists()


# the ring


def test_x2_the_file_is_for_us_alone(file):
    before = os.umask(0)
    try:
        Seal(file).prepare(NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_a_restart_goes_on_with_the_keys(file):
    text = Seal(file).seal(MEMORY, NOW)
    again = Seal(file)
    again.prepare(NOW + 1)
    assert again.open(text, NOW + 1) == MEMORY
    assert len(keys_in(file)) == 1


def test_rotation(file):
    """The first signs, all verify; one that was superseded goes once nothing that it signed can be good."""
    seal = Seal(file)
    before = seal.seal(MEMORY, NOW + ROTATE_AFTER_S - 1)
    after = seal.seal(MEMORY, NOW + ROTATE_AFTER_S)  # the first key was made a second before it: it still signs
    assert len(keys_in(file)) == 1
    later = NOW + 2 * ROTATE_AFTER_S - 1
    fresh = seal.seal(MEMORY, later)
    assert len(keys_in(file)) == 2
    assert seal.open(fresh, later) == MEMORY
    assert seal.open(before, NOW + ROTATE_AFTER_S) == seal.open(after, NOW + ROTATE_AFTER_S) == MEMORY
    just_before = seal.seal(MEMORY, later + 1)
    assert seal.open(just_before, later + 600) == MEMORY
    seal.seal(MEMORY, later + ROTATE_AFTER_S)
    assert len(keys_in(file)) == 2
    first = keys_in(file)[0]
    seal.seal(MEMORY, later + 2 * ROTATE_AFTER_S)
    assert keys_in(file)[1] == first


def test_a_login_begun_just_before_a_rotation_comes_to_its_end(file):
    seal = Seal(file)
    seal.prepare(NOW)
    text = seal.seal(MEMORY, NOW + ROTATE_AFTER_S - 1)
    seal.prepare(NOW + ROTATE_AFTER_S + 1)
    assert len(keys_in(file)) == 2
    assert seal.open(text, NOW + ROTATE_AFTER_S + 500) == MEMORY


def test_processes_that_share_the_ring(file):
    """What one of them sealed with a key that the other has not seen yet, the other opens."""
    one, other = Seal(file), Seal(file)
    one.prepare(NOW)
    other.prepare(NOW)
    assert other.open(one.seal(MEMORY, NOW), NOW) == MEMORY
    later = NOW + ROTATE_AFTER_S
    text = one.seal(MEMORY, later)
    assert other.open(text, later) == MEMORY
    assert other.open(other.seal(MEMORY, later), later) == one.open(other.seal(MEMORY, later), later) == MEMORY
    assert len(keys_in(file)) == 2


def test_many_processes_begin_at_once_and_share_one_key(file):
    code = f"""
import sys
from pathlib import Path
from proxy.login.seal import Seal
sys.stdin.readline()
seal = Seal(Path({str(file)!r}))
print(seal.seal({{"state": "x"}}, {NOW}))
"""
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    texts = [child.communicate(timeout=60)[0].strip() for child in children]
    seal = Seal(file)
    seal.prepare(NOW)
    assert [seal.open(text, NOW) for text in texts] == [{"state": "x"}] * 4
    assert len(keys_in(file)) == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"keys": 7}', '{"keys": []}', '{"keys": [[1, "short"]]}', '{"keys": [["x", "y"]]}', "\x00"]
)
def test_k4_a_file_that_holds_no_keys(file, text):
    """It is told, and not replaced: somebody may want to know."""
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(SealError, match="remove it, and new ones are made"):
        Seal(file).seal(MEMORY, NOW)
    assert file.read_text() == text


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o666])
def test_x2_a_file_that_is_open_to_everybody(file, mode):
    Seal(file).prepare(NOW)
    file.chmod(mode)
    with pytest.raises(SealError, match="every user of this machine"):
        Seal(file).prepare(NOW)


def test_a_directory_that_is_gone(tmp_path):
    with pytest.raises(SealError, match="cannot be kept"):
        Seal(tmp_path / "gone" / "keys").prepare(NOW)


def test_a_rotation_that_fails_leaves_the_key_of_before(file, caplog):
    seal = Seal(file)
    seal.prepare(NOW)
    file.write_text("broken")
    later = NOW + ROTATE_AFTER_S
    with caplog.at_level(logging.WARNING, "promgate.login"):
        assert seal.open(seal.seal(MEMORY, later), later) == MEMORY
    assert "the key of before goes on" in caplog.text


def test_a_clock_that_is_set_back_makes_no_new_keys(file):
    seal = Seal(file)
    text = seal.seal(MEMORY, NOW)
    assert seal.open(seal.seal(MEMORY, NOW - 3600), NOW - 3600) == MEMORY
    assert seal.open(text, NOW - 30) == MEMORY
    assert len(keys_in(file)) == 1


def test_nothing_dear_is_loaded_before_a_login():
    code = "import sys; from proxy.login.seal import Seal; Seal(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cryptography" not in ran.stdout.split()
