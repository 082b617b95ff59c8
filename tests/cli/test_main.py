from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import proxy
from proxy import cli
from proxy.cli import main
from tests.cli.conftest import CONFIG
from tests.kit.promgate import environment

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


@pytest.mark.parametrize("command", list(cli._COMMANDS))
def test_no_command_leaves_a_core_dump_or_shows_its_memory_to_a_debugger(command):
    """PR_GET_DUMPABLE is 3 (<linux/prctl.h>)."""
    code = (
        f"import ctypes, resource; from proxy.cli import main; main([{command!r}, '--help']); "
        "print(*resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split()[-3:] == ["0", "0", "0"]


PRINTS = (
    "--version", "check --output=json", "token list", "token status prom", "audit verify", "certs show ca.crt",
    "explain -X POST --as token:prom http://a/api/v1/write",
)  # fmt: skip
READS = ("hash-password", "token revoke --leaked", "token verify prom --credentials-file -")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A directory with a store, an audit and a certificate."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "promgate.yml").write_text(f"{CONFIG}audit: {{file: state/audit.jsonl}}\n")
    for words in (["token", "create", "prom", "--config.file=promgate.yml"], ["certs", "init", "--dir=."]):
        subprocess.run(
            [sys.executable, "-m", "proxy", *words], cwd=directory, env=environment(), capture_output=True, check=True
        )
    return directory


@pytest.mark.parametrize(
    ("streams", "commands", "code"),
    [
        (">&-", PRINTS, 0),
        ("<&-", READS, 1),
        ("2>&-", ("check", *READS), None),
        ("<&- >&- 2>&-", ("check", *READS), None),
        (">/dev/full", PRINTS, 1),
        ("2>/dev/full", ("check", *READS), None),
        (">&8", PRINTS, 1),  # a pipe that nobody reads any more
    ],
)
def test_a_stream_that_is_not_there_or_takes_nothing_is_no_traceback(site, streams, commands, code):
    """Whoever does not take what is said changes nothing of what is done: 0 for `check`, 1 for an empty secret."""
    said, env = site / "said", {**environment(), "PROMGATE_CONFIG_FILE": "promgate.yml"}
    reading, writing = os.pipe()
    os.close(reading)
    for words in commands:
        said.write_text("")
        own = streams if "2>" in streams else f"2>said {streams}"
        script = f"exec 8>&{writing}; {sys.executable} -m proxy {words} {own}"
        how = {"cwd": site, "env": env, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "timeout": 60}
        done = subprocess.run(["bash", "-c", script], pass_fds=[writing], **how)
        text = said.read_text()
        assert done.returncode == (int(words in READS) if code is None else code), (words, text)
        assert "Traceback" not in text, (words, text)
        assert "Exception ignored" not in text, (words, text)
        if streams == ">/dev/full":
            assert text.endswith("is lost: No space left on device\n")
    os.close(writing)


def test_no_file_that_a_command_opens_becomes_a_stream(site):
    """What is printed to a descriptor that was closed would be printed into the store."""
    code = (
        "import os, sys; from proxy import cli; cli._run = lambda _: print(*(os.readlink(f'/proc/self/fd/{n}') "
        "for n in (0, 1, 2)), file=open('/proc/self/fd/9', 'w')) or 0; sys.exit(cli.main([]))"
    )
    script = f'exec 9>streams; exec {sys.executable} -c "$0" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", script, code], cwd=site, env=environment()).returncode == 0
    assert (site / "streams").read_text().split() == ["/dev/null"] * 3
