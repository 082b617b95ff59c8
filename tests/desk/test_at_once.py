"""Several processes on one name at the same moment: one wins, the others are refused, and nothing is half done."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from proxy.desk.desk import Desk, Report
from proxy.desk.ending import revoke, roll_back
from proxy.desk.owner import is_gone, name_of_this_process
from proxy.desk.rotating import create, rotate
from proxy.stores.sqlite import open_store
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.token import TokenKind, TokenState, state_at
from tests.desk.play import RULES, Target
from tests.kit.wait import wait_for

ROOT = Path(__file__).parents[2]
CONFIG = """
version: 1
listen: [127.0.0.1:9443]
tokens:
  store: "sqlite:///state/promgate.db"
  deliver: {{prom: {{command: [sh, -c, 'cat > token.$$ && exec sh -c "until test -e {go}; do sleep 0.05; done"']}}}}
routes:
  - name: w
    path: /api/v1/write
    kind: remote_write
    upstream: http://127.0.0.1:1
    auth: write_token
    allow: write
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "promgate.db"


def desk_on(store, *sinks, **changed):
    parts = {
        "store": store,
        "rules": RULES,
        "clock": time.time,
        "random": os.urandom,
        "apply": lambda _: None,
        "owner": name_of_this_process(),
        "is_gone": is_gone,
        "sinks": lambda _: sinks,
    }
    return Desk(**(parts | changed))


def states(store):
    return [state_at(token, time.time()) for token in store.named("prom")]


def test_of_several_commands_and_a_desk_in_the_server_one_rotates(tmp_path, path):
    go = tmp_path / "go"
    config = tmp_path / "promgate.yml"
    config.write_text(CONFIG.format(go=go))
    with closing(open_store(path)) as store:
        create(desk_on(store, Target("file:a")), "prom", kind=TokenKind.WRITE)
        command = [sys.executable, "-m", "proxy", "token", "rotate", "prom", f"--config.file={config}"]
        how = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "text": True}
        started = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, **how) for _ in range(4)]
        try:
            wait_for(lambda: TokenState.PENDING in states(store), "the one that was first")
            ours = rotate(desk_on(store, Target("file:a")), "prom")
            wait_for(lambda: sum(one.poll() is not None for one in started) == 3, "the others", timeout_s=60)
        finally:
            go.touch()
            said = [one.communicate(timeout=60) for one in started]
        assert sorted(one.returncode for one in started) == [0, 1, 1, 1]
        assert isinstance(ours, Refusal)
        assert "has not ended" in ours.text
        for one, (out, err) in zip(started, said, strict=True):
            assert out == ""
            if one.returncode:
                assert "has not ended" in err
                assert "Traceback" not in err
        assert states(store) == [TokenState.PREVIOUS, TokenState.CURRENT]


@pytest.mark.parametrize("round_", range(5))
def test_threads_that_rotate_roll_back_and_revoke_at_once_leave_a_lawful_store(path, round_):
    """No order is asked for: each is done or refused, one is current, and no rotation is left open."""
    del round_
    with closing(open_store(path)) as store:
        create(desk_on(store, Target("file:a")), "prom", kind=TokenKind.WRITE)
        together = threading.Barrier(6)
        results, broken = [], []

        def act(what):
            with closing(open_store(path)) as own:
                desk = desk_on(own, Target("file:a"), Target("file:b"))
                together.wait()
                try:
                    results.append(what(desk, "prom"))
                except Exception as error:  # noqa: BLE001 - shown below
                    broken.append(error)

        work = [rotate, rotate, rotate, roll_back, roll_back, lambda desk, name: revoke(desk, name, token_id="none")]
        threads = [threading.Thread(target=act, args=(what,)) for what in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert broken == []
        assert all(isinstance(one, Report | Refusal) for one in results)
        assert states(store).count(TokenState.CURRENT) == 1
        assert not any(one.is_open for one in store.story("prom").rotations)
        assert rotate(desk_on(store, Target("file:a")), "prom").facts["token"] == store.named("prom")[-1].id


HIDDEN = """
import os, sys
from proxy.desk.owner import is_gone
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(os.path.exists(f"/proc/{sys.argv[1].split('/')[2]}"), *(is_gone(one) for one in sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts /proc for a child")
def test_a_process_that_proc_does_not_show_is_taken_to_live():
    """hidepid=2, and the process of another user: its lease must be awaited."""
    alive = name_of_this_process()
    host, namespace, _, started = alive.split("/")
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    mount = 'mount -t proc -o hidepid=2 proc /proc || exit 99; exec "$@"'
    code = [sys.executable, "-c", HIDDEN, alive, f"{host}/{namespace}/{gone.pid}/{started}"]
    words = ["unshare", "--mount", "sh", "-c", mount, "sh", *code]
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode == 99 or ran.stderr.startswith("unshare:"):
        pytest.skip("this container may mount nothing")
    assert ran.stdout.split() == ["False", "False", "True"], ran.stderr


def test_the_end_of_a_process_is_known_and_that_of_a_stranger_is_not():
    alive = name_of_this_process()
    assert not is_gone(f"{alive}#abcd")
    code = "from proxy.desk.owner import name_of_this_process as n; print(n())"
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert is_gone(f"{other}#abcd")
    host, namespace, pid, started = alive.split("/")
    assert is_gone(f"{host}/{namespace}/{pid}/{int(started) - 1}"), "the number went to a later process"
    assert not is_gone(f"another-host/{namespace}/{pid}/1"), "of another machine nothing is known"
    assert not is_gone(f"{host}/1/{pid}/1")
    for odd in ("", "x", "#", "a/b/c/d/e", f"{host}/{namespace}/-1/x"):
        assert not is_gone(odd)
