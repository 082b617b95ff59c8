from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import bcrypt
import pytest

from proxy.cli import main

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "proxy", "hash-password", "--cost=4"]


def hashed(typed, *words):
    return subprocess.run([*COMMAND, *words], input=typed, cwd=ROOT, capture_output=True)


@pytest.mark.parametrize(
    ("typed", "password"),
    [
        (b"hunter2\n", b"hunter2"),
        (b"hunter2", b"hunter2"),
        (b"hunter2\r\n", b"hunter2"),
        (b" with spaces \n", b" with spaces "),
        ("pässwörd\n".encode(), "pässwörd".encode()),
        (b"x" * 72 + b"\n", b"x" * 72),
    ],
)
def test_a_password_from_a_pipe(typed, password):
    done = hashed(typed)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"$2b$04$")
    assert done.stdout.count(b"\n") == 1
    assert bcrypt.checkpw(password, done.stdout.strip())


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"x" * 73, "longer than 72 bytes"),
        ("ä" * 37 + "\n", "longer than 72 bytes"),
        (b"x" * 100_000, "longer than 72 bytes"),
        (b"two\nlines\n", "line break"),
        (b"zero\0byte", "zero byte"),
    ],
)
def test_a_password_that_bcrypt_cannot_take_is_refused(typed, reason):
    done = hashed(typed if isinstance(typed, bytes) else typed.encode())
    assert (done.returncode, done.stdout) == (1, b"")
    assert reason in done.stderr.decode()


@pytest.mark.parametrize("cost", ["3", "15", "x", "-1", "1e1"])
def test_a_cost_out_of_range_is_wrong_usage(cost, capsys):
    assert main(["hash-password", f"--cost={cost}"]) == 2
    assert "from 4 to 14" in capsys.readouterr().err


def test_the_cost_is_that_of_prometheus_by_default():
    done = subprocess.run([*COMMAND[:-1]], input=b"hunter2", cwd=ROOT, capture_output=True)
    assert done.stdout.startswith(b"$2b$10$")


@pytest.mark.parametrize(("second", "code"), [(b"hunter2", 0), (b"hunter3", 1)])
def test_a_terminal_is_asked_twice_and_shows_nothing(second, code):
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(COMMAND[0], COMMAND)
    seen = b""

    def read_until(mark):
        nonlocal seen
        deadline = time.monotonic() + 20
        while mark not in seen and time.monotonic() < deadline:
            seen += os.read(terminal, 1024)

    read_until(b"Password: ")
    os.write(terminal, b"hunter2\n")
    read_until(b"Again: ")
    os.write(terminal, second + b"\n")
    try:
        while chunk := os.read(terminal, 1024):
            seen += chunk
    except OSError:  # EIO: the other side is closed
        pass
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == code
    assert b"hunter" not in seen
    last = seen.split(b"\r\n")[-2]
    assert bcrypt.checkpw(b"hunter2", last) if code == 0 else b"not the same" in last
