from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import proxy
from proxy import cli
from proxy.cli import main

ROOT = Path(__file__).parents[2]


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"promgate {proxy.__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["-h"]])
def test_help_names_every_command_and_imports_none(words, capsys, monkeypatch):
    monkeypatch.setattr(cli, "import_module", None)
    assert main(words) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in cli._COMMANDS)


@pytest.mark.parametrize(
    "words", [[], ["nope"], ["--nope"], ["token"], ["token", "nope"], ["token", "rotate"], ["tok"]]
)
def test_wrong_usage_is_2_and_said_on_stderr(words, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("usage: promgate")


@pytest.mark.parametrize("command", list(cli._COMMANDS))
def test_every_command_has_its_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"promgate {command}" in capsys.readouterr().out


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (SystemExit(), 0), (SystemExit(3), 3)])
def test_how_a_command_ends(monkeypatch, capsys, raised, code):
    def run(words):
        raise raised

    monkeypatch.setattr(cli, "_run", run)
    assert main([]) == code
    assert capsys.readouterr() == ("", "")


def started(*words, **how):
    return subprocess.run([sys.executable, "-m", "proxy", *words], cwd=ROOT, capture_output=True, text=True, **how)


def test_the_package_runs_as_a_module():
    assert started("--version").stdout == f"promgate {proxy.__version__}\n"


def test_nobody_reading_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "proxy", "token", "--help"]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_token_command_imports_nothing_it_does_not_need(config):
    """It is on the path of every rotation: it starts in less than 100 ms."""
    code = "import sys; from proxy.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, "token", "create", "prom", f"--config.file={config}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    imported = set(done.stderr.split())
    assert done.stdout.startswith("pgw_")
    assert "proxy.cli.token" in imported
    assert not imported & {
        "cryptography",
        "aiohttp",
        "asyncio",
        "uvloop",
        "ssl",
        "bcrypt",
        "proxy.cli.serve",
        "proxy.app",
    }


def test_a_command_leaves_no_core_dump():
    code = "import resource; from proxy.cli import main; main(['--version']); print(resource.getrlimit(4)[0])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split()[-1] == "0"
