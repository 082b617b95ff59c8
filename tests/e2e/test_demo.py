"""`make demo` as a newcomer meets it: every line it prints is true, and whatever ends it leaves no process behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from demo import environment, packages, state
from demo.parts import choose_port
from demo.steps import Refused
from tests.kit.fetch import basic, fetch
from tests.kit.process import free_port
from tests.kit.promgate import ROOT
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real

#: The promise: nothing of it is left so long after its end.
GONE_AFTER_S = 5.0
ROW = re.compile(r"^  (\d+) +(\w{8}) -> (\w{8}) +30 s +\d+\.\d s +(\d+) +(\d+) +(\d+)$", re.MULTILINE)


class Demo:
    """One run, in a directory of its own. Its processes are known by a mark in the environment that all inherit, or
    by that directory on their command line: promgate shows its environment to nobody.
    """

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.printed = ""
        self._mark = f"PROMGATE_DEMO_TEST={uuid.uuid4()}"
        self._child: subprocess.Popen[str] | None = None

    def start(self, *words: str, command: tuple[str, ...] = (sys.executable, "-m", "demo")) -> None:
        self.printed = ""
        own = [f"--state={self.state}", f"--port={free_port()}", "--rotations=2", "--every=2"]
        named = [] if any(word.startswith("--venv=") for word in words) else [f"--venv={sys.prefix}"]
        every = [*own, *named, *words]
        # As from a terminal, also where this test itself runs in the background of a script, which ignores SIGINT.
        heeding = ["env", "--default-signal=INT"]
        self._child = subprocess.Popen(
            [*heeding, *command, *([f"ARGS={' '.join(every)}"] if command[0] == "make" else every)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, **dict([self._mark.split("=")])},
            start_new_session=True,
        )

    def wait_printed(self, text: str) -> None:
        """Read until a line with `text`; its end without one fails the test with all that it printed."""
        for line in self._output:
            self.printed += line
            if text in line:
                return
        raise AssertionError(f"{text!r} was never printed:\n{self.printed}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for its end and for that of all it started; its exit code."""
        ended_at = time.monotonic() + GONE_AFTER_S
        try:
            wait_for(lambda: not self.processes(), "the end", timeout_s=GONE_AFTER_S)
        except TimeoutError:
            left = [" ".join(_words(Path(f"/proc/{pid}/cmdline"))) for pid in self.processes()]
            self._kill()
            raise AssertionError(f"after {GONE_AFTER_S} s: {left}, and it printed:\n{self._output.read()}") from None
        self.printed += self._output.read()
        self._output.close()
        code = self._process.wait()
        assert time.monotonic() < ended_at
        return code

    def close(self) -> None:
        """End what a failed test left."""
        self._kill()
        if self._child is not None:
            self._output.close()
            self._child.wait()

    def _kill(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[int]:
        """The ids of all living processes of this run."""
        return [
            int(one.name)
            for one in Path("/proc").glob("[0-9]*")
            if self._mark in _words(one / "environ") or any(str(self.state) in word for word in _words(one / "cmdline"))
        ]

    @property
    def _process(self) -> subprocess.Popen[str]:
        assert self._child is not None
        return self._child

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout


def _words(file: Path) -> list[str]:
    try:
        return file.read_bytes().decode(errors="replace").split("\0")
    except OSError:  # ended, or another user's
        return []


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    made = Demo(tmp_path)
    yield made
    made.close()


def _paste(line: str) -> str:
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert done.returncode == 0, (line, done.stderr)
    return done.stdout


def _lines_to_paste(printed: str) -> dict[str, str]:
    """What is promised -> the line below it."""
    return dict(re.findall(r"(?m)^  # (.+)\n  (.+)$", printed))


def test_what_it_prints_is_true(demo: Demo) -> None:
    demo.start()
    demo.wait_printed("Ctrl-C ends it.")

    rows = ROW.findall(demo.printed)
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[0][2] == rows[1][1]
    assert all(sent == stored and lost == "0" for *_, sent, stored, lost in rows)
    assert re.search(r"(?m)^Not one sample was lost in 2 rotations: sent \d+, stored \d+, lost 0 ", demo.printed)

    secrets = [demo.state / "admin.password", demo.state / "agent.token"]
    for file in secrets:
        assert str(file) in demo.printed
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().strip() not in demo.printed
    assert demo.state.stat().st_mode & 0o777 == 0o700

    login = basic("admin", secrets[0].read_text().strip())
    shown = re.findall(r"(?m)^  (?:Prometheus|Alertmanager).* (https://\S+)", demo.printed)
    assert len(shown) == 3
    for url in shown:
        page = fetch(url, headers=login, ca_file=demo.state / "ca.crt")
        assert page.status in {200, 302}, url

    answers = {what: _paste(line) for what, line in _lines_to_paste(demo.printed).items()}
    assert '"status":"success"' in answers["what is stored"]
    assert "demo_scrapes_total" in answers["what is stored"]
    assert answers["raise an alert (prints nothing)"] == ""
    assert '"alertname":"Demo"' in answers["and see it"]
    assert re.fullmatch(r"[0-9a-f-]{36}\n", answers["silence it (prints the silence's id)"])
    assert answers["no credentials (401)"].startswith("HTTP/1.1 401 ")
    assert answers["the agent's token writes, and reads nothing (403)"].startswith("HTTP/1.1 403 ")
    assert "current" in answers["its tokens, old and new"]
    assert answers["rotate it yourself (and watch here)"] == ""
    demo.wait_printed("You rotated ")
    assert ", lost 0" in demo.printed.splitlines()[-1]

    demo.send(signal.SIGINT)
    assert demo.end() == 0
    assert "lost 0" in demo.printed.splitlines()[-2]


def test_kill_9_leaves_nothing_and_a_second_run_works_at_once(demo: Demo) -> None:
    demo.start()
    demo.wait_printed("  1   ")
    assert len(demo.processes()) >= 5
    demo.send(signal.SIGKILL)
    assert demo.end() == -signal.SIGKILL

    demo.start("--once", "--rotations=1")
    demo.wait_printed("Not one sample was lost in 1 rotations")
    assert demo.end() == 0


@pytest.mark.parametrize("shown", ["  Prometheus (receiver)", "  promgate ", "  1   "])
def test_ctrl_c_leaves_nothing(demo: Demo, shown: str) -> None:
    demo.start()
    demo.wait_printed(shown)
    demo.send(signal.SIGINT)
    assert demo.end() == 130
    assert "Traceback" not in demo.printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_make_alone(demo: Demo, number: signal.Signals) -> None:
    """make passes SIGTERM on, but waits for ever after a SIGINT that it alone got, and cannot after SIGKILL."""
    demo.start(command=("make", "demo", f"PYTHON={sys.executable}", f"VENV={sys.prefix}"))
    demo.wait_printed("  Prometheus (receiver)")
    demo.send(number)
    assert demo.end() == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_while_it_installs_leaves_nothing(demo: Demo, tmp_path: Path, number: signal.Signals) -> None:
    venv = tmp_path / "venv"
    demo.start(f"--venv={venv}")
    # venv has started ensurepip by then, a grandchild that no parent-death signal would reach.
    wait_for(lambda: (venv / "bin" / "python").exists() and len(demo.processes()) >= 4, "ensurepip")
    demo.send(number)
    assert demo.end() == (130 if number == signal.SIGINT else -number)
    assert (venv / ".unfinished").exists()


def test_one_at_a_time(tmp_path: Path) -> None:
    held = state.take(tmp_path / "state")
    with pytest.raises(Refused, match=rf"a demo runs here already \(process {os.getpid()}\)"):
        state.take(tmp_path / "state")
    os.close(held.lock)
    os.close(state.take(tmp_path / "state").lock)


def test_it_empties_no_directory_but_a_demos(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(Refused, match="is not a demo's"):
        state.take(tmp_path)
    assert (tmp_path / "mine").exists()


def test_it_makes_no_environment_in_a_directory_of_others(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(Refused, match="is not a virtual environment"):
        environment.prepare(tmp_path, state.take(tmp_path / "state"))
    assert (tmp_path / "mine").exists()


def test_another_port_where_the_friendly_one_is_taken(tmp_path: Path) -> None:
    port = free_port()
    assert choose_port(port) == port
    listener = subprocess.Popen(
        [sys.executable, "-c", f"import socket; s = socket.create_server(('127.0.0.1', {port})); input()"],
        stdin=subprocess.PIPE,
    )
    with listener:
        wait_for(lambda: choose_port(port) != port, "another port")
        listener.communicate(b"\n")


@pytest.mark.parametrize(
    ("there", "says"),
    [(["apt-get"], "apt-get install --no-install-recommends prometheus prometheus-alertmanager"), ([], "no apt-get")],
)
def test_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], says: str
) -> None:
    """On a PATH with neither program nor sudo, for a user who is not root."""
    for name in there:
        (tmp_path / name).symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Refused) as refused:
        packages.prepare(state.State(tmp_path, -1))
    assert "not installed: prometheus prometheus-alertmanager" in str(refused.value)
    assert says in str(refused.value)
    assert "docker run" in str(refused.value)
