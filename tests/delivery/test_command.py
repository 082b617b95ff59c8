"""The command sink: what the program is given, what of it is told, and that nothing of it stays."""

from __future__ import annotations

import base64
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from proxy.delivery.command import CommandSink
from proxy.tokens.ports import DeliveryError
from proxy.tokens.targets import CommandTarget
from tests.delivery.play import own_part, parcel
from tests.kit.wait import wait_for

SECRET = parcel().secret


def sink(text, *arguments, timeout_s=30.0):
    return CommandSink(CommandTarget((sys.executable, "-c", text, *map(str, arguments)), timeout_s))


def failure(text, *arguments, timeout_s=30.0):
    with pytest.raises(DeliveryError) as failed:
        sink(text, *arguments, timeout_s=timeout_s).deliver(parcel())
    said = str(failed.value)
    assert own_part(SECRET) not in said
    return said.removeprefix(sink(text, *arguments).target)


def is_alive(pid):
    """Running, and not a zombie that nobody has reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_the_program_sees(tmp_path):
    seen = tmp_path / "seen"
    text = """
import os, pathlib, sys
print(sys.argv[2:], sys.stdin.read().encode(), file=open(sys.argv[1], "w"))
for name in ("NAME", "KIND", "TOKEN_ID", "ROTATION"):
    print(os.environ["PROMGATE_" + name], file=open(sys.argv[1], "a"))
proc = pathlib.Path("/proc/self")
print((proc / "environ").read_bytes() + (proc / "cmdline").read_bytes(), file=open(sys.argv[1], "a"))
"""
    sink(text, seen, "a b", "c").deliver(parcel())
    arguments, *told, public = seen.read_text().splitlines()
    assert arguments == f"['a b', 'c'] {(SECRET.reveal() + chr(10)).encode()!r}"
    assert told == ["agent", "write", parcel().token_id, "rotation-1"]
    assert own_part(SECRET) not in public


def test_of_our_environment_it_sees_what_was_named(tmp_path, monkeypatch):
    """promgate's own may hold the secrets of its configuration."""
    usual = {"PATH": os.environ["PATH"], "HOME": "/home/promgate", "LANG": "C.UTF-8", "TZ": "UTC"}
    for name, value in {**usual, "VAULT_ADDR": "https://vault", "OAUTH_SECRET": "hunter2"}.items():
        monkeypatch.setenv(name, value)
    seen = tmp_path / "seen"
    where = CommandTarget(("/bin/cp", "/proc/self/environ", str(seen)), environment=("VAULT_ADDR", "NOT_SET"))
    CommandSink(where).deliver(parcel())
    told = dict(line.split("=", 1) for line in seen.read_text().strip("\0").split("\0"))
    assert {name: value for name, value in told.items() if not name.startswith("PROMGATE_")} == {
        **usual,
        "VAULT_ADDR": "https://vault",
    }
    assert len(told) == len(usual) + 1 + 4


def test_a_program_need_not_read():
    sink("import os; os.close(0)").deliver(parcel())


def test_no_shell_is_in_between(tmp_path):
    touched = tmp_path / "touched"
    CommandSink(CommandTarget(("/bin/true", f"; touch {touched}"))).deliver(parcel())
    assert not touched.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit(3)", ": ended with exit code 3; it said nothing on stderr"),
        ("import sys; sys.exit('\\n  no such key  \\nmore')", ": ended with exit code 1: no such key"),
        ("import os; os.kill(os.getpid(), 15)", ": ended with SIGTERM; it said nothing on stderr"),
        ("import sys; sys.exit('x' * 100_000)", f": ended with exit code 1: {'x' * 200}"),
        ("import sys; sys.exit('\\x1b[31mred')", ": ended with exit code 1:  [31mred"),
    ],
)
def test_why_it_failed(text, said):
    assert failure(text) == said


@pytest.mark.parametrize("where", ["/nowhere/at/all", "no-such-program-anywhere", "/etc/passwd"])
def test_a_program_that_cannot_be_run(where):
    with pytest.raises(DeliveryError, match=r"cannot be run: .*; is it there, and executable\?"):
        CommandSink(CommandTarget((where,))).deliver(parcel())


@pytest.mark.parametrize(
    "echo",
    [
        "line",
        "'bad: ' + line",
        "line[30:50]",
        "base64.b64encode(line.encode()).decode()",
        "base64.b64encode(b'x' + line.encode()).decode()",
        "base64.b64encode(b'user:' + line.encode()).decode()",
    ],
)
def test_what_it_says_with_the_secret_in_it_is_withheld(echo):
    said = failure(f"import base64, sys; line = input(); sys.exit({echo})")
    assert said == ": ended with exit code 1: (what it said is withheld: it holds the secret)"
    assert base64.b64encode(own_part(SECRET).encode()).decode()[4:12] not in said


def test_one_that_does_not_end_is_ended_with_all_that_it_has_started(tmp_path):
    """It and its child ignore SIGTERM, and the child holds stderr open."""
    pids = tmp_path / "pids"
    text = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    while True:
        time.sleep(60)
open(sys.argv[1], "w").write(f"{os.getpid()} {os.getppid()}")
print("still at it", file=sys.stderr, flush=True)
time.sleep(600)
"""
    before = time.monotonic()
    text = text.replace("os.getppid()", "child").replace("if os.fork() == 0:", "child = os.fork()\nif child == 0:")
    assert failure(text, pids, timeout_s=3.0) == ": did not end within 3 s and was ended: still at it"
    assert time.monotonic() - before < 60
    for pid in map(int, pids.read_text().split()):
        wait_for(lambda pid=pid: not is_alive(pid), f"the end of process {pid}")


def test_what_a_good_program_leaves_running_is_ended_too(tmp_path):
    pid = tmp_path / "pid"
    text = """
import os, sys, time
child = os.fork()
if child == 0:
    time.sleep(600)
open(sys.argv[1], "w").write(str(child))
"""
    sink(text, pid).deliver(parcel())
    wait_for(lambda: not is_alive(int(pid.read_text())), "the end of what was left")


def test_one_that_never_stops_talking_meets_its_deadline_too():
    text = "import sys\nwhile True: sys.stderr.write('words ' * 1000)"
    assert failure(text, timeout_s=1.0).startswith(": did not end within 1 s and was ended: words words")


def test_our_own_group_is_left_alone():
    """The program is in a session of its own."""
    sink("import os, sys; sys.exit(os.getsid(0) != os.getpid())").deliver(parcel())
    assert os.getpgid(0) != 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_descriptor_beyond_those_of_select(tmp_path):
    """A server with thousands of connections has them."""
    held = []
    import resource  # noqa: PLC0415

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        held = [os.open(tmp_path, os.O_RDONLY) for _ in range(1100)]
        sink("input()").deliver(parcel())
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("argv", "target"),
    [
        (("/bin/put", "-n", "agent"), "command:/bin/put -n agent"),
        (("/bin/put", "a b"), "command:/bin/put 'a b'"),
        (("/bin/put", "x\ny\x1b"), r"command:/bin/put 'x\ny\x1b'"),
    ],
)
def test_how_it_is_called(argv, target):
    assert CommandTarget(argv).target == target
