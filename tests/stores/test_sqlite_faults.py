"""A disk that fails or a process that dies, at every call that changes a file: the store is valid, a way in is left."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest

from proxy.stores.sqlite import open_store
from proxy.tokens.ports import StoreError
from proxy.tokens.secret import digest
from proxy.tokens.token import ACCEPTED, TokenState, state_at
from tests.kit.fault_site import fault_site
from tests.kit.rig import FAULTS, KILL, ROOT, TORN


@pytest.fixture
def site(rig_library):
    with fault_site(rig_library) as made:
        yield made


def stride(what):
    """A kill comes at each call; the four other faults share the calls among them, unless all are asked for."""
    others = [fault for fault in FAULTS.values() if fault != KILL]
    return (1, 1) if what == KILL or os.environ.get("PROMGATE_SOAK") else (1 + others.index(what), len(others))


def each_fault(site, words, what, *, is_served=False):
    """Run the command with the fault at one call after the other, until there is no such call any more."""
    first, step = stride(what)
    at = first
    while (ended := run_from_saved(site, words, at, what, is_served=is_served)).struck:
        if what in (KILL, TORN):
            assert ended.code == -signal.SIGKILL, ended
        else:
            # A token may be out and its receipt not: then the command failed, and a rotation is there to be taken up.
            assert ended.code in (0, 1)
            assert not ended.stdout or words[0] in ("create", "rotate", "show")
            assert not (ended.code and ended.stdout) or "token rotate prom --id" in ended.stderr
            assert ended.code == 0 or str(site.state) in ended.stderr
            assert "Traceback" not in ended.stderr
        yield ended
        at += step
    assert ended.code == 0, ended
    assert at > 8, "the rig hardly struck"


def run_from_saved(site, words, at, what, *, is_served):
    site.put_back()
    if not is_served:
        return site.run(*words, at=at, what=what)
    with closing(open_store(site.store)) as server:
        server.changes_since(0)
        ended = site.run(*words, at=at, what=what)
        assert server.story("prom") == site.story("prom")
    return ended


def check_ways_in(site, printed):
    """Whoever was handed a token can use it; and there is at most one current, and one rotation at most is open."""
    story, now = site.story("prom"), time.time()
    known = {token.digest: state_at(token, now) for token in story.tokens}
    if printed:
        assert known[digest(printed.strip().encode())] in ACCEPTED
    assert sum(state is TokenState.CURRENT for state in known.values()) <= 1
    assert sum(rotation.is_open for rotation in story.rotations) <= 1


def take_up(site, printed):
    """Run the rotation that is open to its end, at once: its process is gone. Then exactly one token is current."""
    for rotation in [one for one in site.story("prom").rotations if one.is_open]:
        again = site.run("rotate", "prom", "--id", rotation.id)
        assert again.code == 0, again
        check_ways_in(site, printed)
        printed = again.stdout
    seen, now = site.tokens("prom"), time.time()
    (current,) = [token for token in seen if state_at(token, now) is TokenState.CURRENT]
    if printed:
        assert current.digest == digest(printed.strip().encode())


@pytest.mark.parametrize(
    ("what", "is_served"),
    [*((what, False) for what in FAULTS.values()), (KILL, True), (FAULTS["EIO"], True)],
    ids=[*FAULTS, "kill-served", "EIO-served"],
)
def test_rotate_always_leaves_one_current_token_and_the_old_one_accepted(site, what, is_served):
    site.run("create", "prom")
    (old,) = site.tokens("prom")
    site.save()
    for ended in each_fault(site, ["rotate", "prom"], what, is_served=is_served):
        first = site.tokens("prom")[0]
        assert first.digest == old.digest
        assert state_at(first, time.time()) in ACCEPTED
        check_ways_in(site, ended.stdout)
        take_up(site, ended.stdout)
        assert state_at(site.tokens("prom")[0], time.time()) in ACCEPTED


@pytest.mark.parametrize("what", FAULTS.values(), ids=FAULTS)
def test_revoke_is_done_whole_or_not_at_all_and_stays(site, what):
    site.run("create", "prom")
    site.run("rotate", "prom")
    site.save()
    for ended in each_fault(site, ["revoke", "prom"], what):
        revoked = [token.revoked_at is not None for token in site.tokens("prom")]
        assert revoked in ([True, True], [False, False])
        if ended.code == 0:
            assert all(revoked)
        assert site.run("revoke", "prom").code == (1 if all(revoked) else 0)
        assert all(token.revoked_at is not None for token in site.tokens("prom"))


@pytest.mark.parametrize("what", FAULTS.values(), ids=FAULTS)
def test_a_roll_back_is_done_whole_or_not_at_all(site, what):
    site.run("create", "prom")
    site.run("rotate", "prom")
    site.save()
    for ended in each_fault(site, ["rollback", "prom"], what):
        old, new = site.tokens("prom")
        states = [state_at(token, time.time()) for token in (old, new)]
        assert states in (
            [TokenState.PREVIOUS, TokenState.CURRENT],
            [TokenState.CURRENT, TokenState.PREVIOUS],
        )
        if ended.code == 0:
            assert states[0] is TokenState.CURRENT


def made_by_version_1(site):
    """A store as the first version wrote it, with a current and a previous token; what was in it."""
    site.run("create", "prom")
    site.run("rotate", "prom")
    before = site.tokens("prom")
    with closing(sqlite3.connect(site.store, isolation_level=None)) as db:
        for statement in ("ALTER TABLE meta DROP COLUMN made_at", "DROP TABLE step",
                          "DROP TABLE rotation", "DROP TABLE receipt",
                          "ALTER TABLE token DROP COLUMN max_until", "ALTER TABLE token DROP COLUMN held_until",
                          "PRAGMA user_version = 1"):  # fmt: skip
            db.execute(statement)
    site.save()
    return tuple(replace(token, max_until=None) for token in before)


def version_of(file):
    with closing(sqlite3.connect(file)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


@pytest.mark.parametrize("what", FAULTS.values(), ids=FAULTS)
def test_a_migration_is_done_whole_or_not_at_all(site, what):
    """By a command that only reads: whoever opens the store first brings it up to date."""
    before = made_by_version_1(site)
    for ended in each_fault(site, ["show", "prom"], what):
        assert version_of(site.store) in (1, 4)
        assert site.tokens("prom") == before
        if ended.code == 0:
            assert version_of(site.store) == 4


def test_a_store_of_version_1_goes_on_and_can_be_rolled_back(site):
    old, new = made_by_version_1(site)
    with closing(open_store(site.store)) as opened:
        assert opened.changes_since(0).made_at == 0.0  # nobody knows: long ago
    assert site.run("rollback", "prom").code == 0
    assert [state_at(token, time.time()) for token in site.tokens("prom")] == [
        TokenState.CURRENT,
        TokenState.PREVIOUS,
    ]
    assert site.run("rotate", "prom").code == 0
    assert [token.id for token in site.tokens("prom")][:2] == [old.id, new.id]


@pytest.mark.parametrize("what", FAULTS.values(), ids=FAULTS)
def test_a_store_is_made_whole_or_not_at_all(site, what):
    site.save()
    for ended in each_fault(site, ["create", "prom"], what):
        try:
            seen = site.tokens("prom")
        except StoreError as error:
            assert "no token store is there" in str(error)  # noqa: PT017 - only one of two lawful outcomes
            assert not ended.stdout
            seen = ()
        if seen or ended.stdout:
            check_ways_in(site, ended.stdout)
        assert site.run("create", "prom").code == (1 if seen else 0)
        take_up(site, ended.stdout)


def promgate(site, *words, **how):
    command = [sys.executable, "-m", "proxy", "token", *words, f"--config.file={site.config}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def test_a_rotation_killed_at_any_moment_leaves_a_token_in_use(site):
    """The same with true kills, at moments of no choice of ours."""
    with promgate(site, "create", "prom") as command:
        secrets = [command.communicate()[0]]
    started = time.perf_counter()
    with promgate(site, "rotate", "prom", "--overlap=1h") as command:
        secrets.append(command.communicate()[0])
    whole = time.perf_counter() - started
    chance = random.Random(1)
    for _ in range(12):
        with promgate(site, "rotate", "prom", "--overlap=1h") as command:
            try:
                # Nearer to the end, where the store is written.
                secrets.append(command.communicate(timeout=whole * chance.uniform(0.5, 1.1))[0])
            except subprocess.TimeoutExpired:
                command.kill()
                secrets.append(command.communicate()[0])
        for secret in secrets:
            check_ways_in(site, secret)
        take_up(site, "")


@pytest.mark.parametrize("kib", range(0, 144, 16))
def test_a_file_that_may_not_grow_ends_the_command_with_a_clear_word(site, kib):
    """A true limit of the system (EFBIG), where the rig gives errors of its own making."""
    site.run("create", "prom")
    before = site.tokens("prom")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (kib << 10, kib << 10))

    with promgate(site, "rotate", "prom", preexec_fn=limit) as command:
        printed, said = command.communicate()
    seen = site.tokens("prom")
    check_ways_in(site, printed)
    if kib < 32:  # the size of the shared index alone
        assert (command.returncode, printed, seen) == (1, "", before)
        assert str(site.store) in said
        assert "Traceback" not in said
    elif kib == 128:
        assert command.returncode == 0
