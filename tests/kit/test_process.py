"""The kit's promises: what a test starts is ready, ends when told, and never outlives the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit import process
from tests.kit.process import Process, accepts, free_port
from tests.kit.promgate import ROOT
from tests.kit.wait import wait_for

LISTEN = """import signal, socket, sys
{}
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.pause()
"""


def _listener(directory: Path, port: int, prelude: str = "") -> Process:
    command = [sys.executable, "-c", LISTEN.format(prelude), str(port)]
    return Process(command, directory / "listener.log", lambda: accepts(port))


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie of another parent answers too.
    return ") Z " in Path(f"/proc/{pid}/stat").read_text()


def test_it_listens_when_start_returned_and_no_more_when_stop_did(tmp_path: Path) -> None:
    port = free_port()
    with _listener(tmp_path, port) as listener:
        assert accepts(port)
        assert os.getsid(listener.pid) == listener.pid != os.getsid(0)
    assert not accepts(port)


def test_it_can_be_killed_and_started_again_on_its_port(tmp_path: Path) -> None:
    port = free_port()
    with _listener(tmp_path, port) as listener:
        assert listener.kill() == -signal.SIGKILL
        assert not accepts(port)
        listener.start()
        assert accepts(port)


def test_who_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 0.5)
    listener = _listener(tmp_path, free_port(), "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    listener.start()
    assert listener.stop() == -signal.SIGKILL


def test_a_program_that_ends_at_once_shows_what_it_said(tmp_path: Path) -> None:
    failing = Process([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path / "log", lambda: False)
    with pytest.raises(RuntimeError, match=r"ended with 1\nno such luck"):
        failing.start()


def test_it_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, sys\n"
        "from tests.kit.process import Process\n"
        "child = Process(['sleep', '600'], pathlib.Path(sys.argv[1]), lambda: True)\n"
        "child.start()\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # Ready was at once: setpriv may not have come to the sleep, nor to the wish, yet.
        wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "setpriv to become sleep")
        parent.kill()
        wait_for(lambda: _gone(pid), "the child's end")
