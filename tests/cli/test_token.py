"""What an operator sees of a token's life: the commands in this process, then whole with config, files and server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.cli import token as token_command
from proxy.cli.token import act
from proxy.desk.desk import Desk
from proxy.gate.snapshot import TokenRules
from proxy.stores.memory import MemoryStore
from proxy.stores.nudge import serve_nudges
from proxy.stores.sqlite import open_store
from proxy.stores.watch import StoreWatch
from proxy.tokens.book import TokenBook
from proxy.tokens.ports import Conflict, StoreError
from proxy.tokens.rotation import LEASE_S
from proxy.tokens.secret import digest, parse
from proxy.tokens.token import TokenKind, TokenState, state_at
from tests.tokens.play import HOUR, randomness

ROOT = Path(__file__).parents[2]
RULES = TokenRules(overlap_s=HOUR, max_overlap_s=2 * HOUR)
MINTED = re.compile(r"pg[wr]_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}\n")


class Office:
    """The commands, on a store in memory, at a time of our choice, with a server that answers as told."""

    def __init__(self, capsys):
        self.capsys = capsys
        self.store = MemoryStore()
        self.now = 1_700_000_000.0
        self.random = randomness()
        self.nudged = []
        self.answer = lambda generation: generation

    def nudge(self, generation):
        self.nudged.append(generation)
        return self.answer(generation)

    def run(self, *words):
        parser = argparse.ArgumentParser()
        token_command.add_parser(parser.add_subparsers())
        desk = Desk(self.store, RULES, lambda: self.now, self.random, self.nudge)
        code = act(parser.parse_args(["token", *words]), desk)
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err

    def states(self, name):
        return [state_at(token, self.now) for token in self.store.named(name)]


@pytest.fixture
def office(capsys):
    return Office(capsys)


def test_create_prints_the_token_alone_and_once(office):
    code, out, err = office.run("create", "prom")
    assert code == 0
    assert MINTED.fullmatch(out)
    (token,) = office.store.named("prom")
    assert token.digest == digest(out.strip().encode())
    assert parse(out.strip().encode()) == (TokenKind.WRITE, token.id)
    assert token.id in err
    assert out.strip()[13:] not in err
    assert office.nudged == [1, 2], "before it is handed out, and when it is current"


def test_create_takes_kind_and_expiry(office):
    code, out, err = office.run("create", "grafana", "--kind=reader", "--expires=90d")
    (token,) = office.store.named("grafana")
    assert (code, token.kind, token.expires_at) == (0, TokenKind.READER, office.now + 90 * 24 * HOUR)
    assert out.startswith("pgr_")
    assert "until 2024-02-12T22:13:20Z" in err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["create", "prom"], "token rotate prom"),
        (["create", "a b"], "not a name"),
        (["create", "x", "--expires=0s"], "--expires"),
        (["rotate", "nobody"], "no token named 'nobody'"),
        (["rotate", "prom", "--overlap=3h"], "max_overlap"),
        (["revoke", "nobody"], "no token named"),
        (["revoke", "prom", "--id=nothere1"], "no token 'nothere1'"),
        (["show", "nobody"], "no token named"),
        (["show", "no\x1bbody"], r"no token named 'no\x1bbody'"),
    ],
)
def test_a_refusal_is_1_says_why_and_changes_nothing(office, words, reason):
    office.run("create", "prom")
    before = office.store.changes_since(0)
    code, out, err = office.run(*words)
    assert (code, out) == (1, "")
    assert err.startswith("promgate: ")
    assert reason in err
    assert office.store.changes_since(0) == before


def test_rotate_prints_the_successor_and_says_until_when_the_old_one_is_taken(office):
    _, old, _ = office.run("create", "prom")
    code, new, err = office.run("rotate", "prom")
    assert code == 0
    assert MINTED.fullmatch(new)
    assert new != old
    assert office.states("prom") == [TokenState.PREVIOUS, TokenState.CURRENT]
    assert f"token {office.store.named('prom')[0].id} is accepted until 2023-11-14T23:13:20Z" in err
    assert "warning" not in err
    office.now += HOUR
    assert office.states("prom") == [TokenState.RETIRED, TokenState.CURRENT]


def test_a_short_overlap_is_taken_with_a_warning(office):
    office.run("create", "prom")
    code, out, err = office.run("rotate", "prom", "--overlap=2s")
    assert code == 0
    assert MINTED.fullmatch(out)
    assert "warning: an overlap under 30s" in err
    assert office.store.named("prom")[0].accepted_until == office.now + 2


@pytest.mark.parametrize("overlap", ["soon", "-1s", "1s1h", ""])
def test_an_overlap_that_is_no_duration_is_wrong_usage(overlap, config, capsys):
    assert main(["token", "rotate", "prom", f"--overlap={overlap}", f"--config.file={config}"]) == 2
    assert "--overlap" in capsys.readouterr().err


def test_revoke_ends_all_of_a_name_or_one(office):
    for words in (["create", "prom"], ["rotate", "prom"], ["rotate", "prom"]):
        office.run(*words)
    first, *_ = office.store.named("prom")
    code, out, err = office.run("revoke", "prom", f"--id={first.id}")
    assert (code, out) == (0, "")
    assert f"revoked {first.id}\n" in err
    assert office.states("prom") == [TokenState.REVOKED, TokenState.PREVIOUS, TokenState.CURRENT]
    assert office.run("revoke", "prom")[0] == 0
    assert office.states("prom") == [TokenState.REVOKED] * 3
    code, _, err = office.run("revoke", "prom")
    assert code == 1
    assert "revoked already" in err


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["rotate", "prom", "--all"], "--all"),
        (["rotate", "prom", "--dry-run"], "--dry-run"),
        (["rotate", "--due", "--id=x"], "--id"),
        (["rotate", "--due", "--overlap=0s"], "--overlap"),
        (["rotate", "--due", "--print", "--dry-run"], "--print"),
        (["revoke", "prom", "--print"], "--print"),
        (["revoke", "--digest", 64 * "0", "--id=x"], "--id"),
    ],
)
def test_a_flag_that_would_say_nothing_is_wrong_usage(office, words, flag):
    office.run("create", "prom")
    before = office.store.changes_since(0)
    code, out, err = office.run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"promgate: {flag} is for ")
    assert office.store.changes_since(0) == before


def test_a_dry_run_of_what_is_due(office):
    assert office.run("rotate", "--due", "--dry-run")[::2] == (0, "promgate: nothing is due\n")


def test_with_no_server_the_token_is_printed_and_that_is_said(office):
    office.answer = lambda _: None
    code, out, err = office.run("create", "prom")
    assert code == 0
    assert MINTED.fullmatch(out)
    assert "no server is running" in err


def late(generation):
    raise StoreError("x.db.sock: the server there did not answer within 5 s")


def open_rotation(office, name):
    (rotation,) = [one for one in office.store.story(name).rotations if one.is_open]
    return rotation.id


def test_a_token_that_the_server_does_not_take_is_handed_to_nobody_and_the_way_on_is_named(office):
    _, old, _ = office.run("create", "prom")
    office.answer = late
    code, out, err = office.run("rotate", "prom")
    assert (code, out) == (1, "")
    assert "does not use the new token yet" in err
    assert "did not answer" in err
    assert f"token rotate prom --id {open_rotation(office, 'prom')}" in err
    assert office.states("prom") == [TokenState.CURRENT, TokenState.PENDING]
    office.answer = lambda generation: generation
    code, new, _ = office.run("rotate", "prom", f"--id={open_rotation(office, 'prom')}")
    assert (code, len({old, new})) == (0, 2)
    assert office.states("prom") == [TokenState.PREVIOUS, TokenState.REVOKED, TokenState.CURRENT]


def test_a_server_that_does_not_take_a_revocation_is_a_failure(office):
    office.run("create", "prom")
    office.answer = late
    code, _, err = office.run("revoke", "prom")
    assert code == 1
    assert "does not use it yet" in err
    assert office.states("prom") == [TokenState.REVOKED]


def test_ctrl_c_while_the_server_is_awaited_leaves_a_rotation_that_goes_on(office):
    def interrupted(generation):
        raise KeyboardInterrupt

    office.run("create", "prom")
    office.answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        office.run("rotate", "prom")
    assert office.capsys.readouterr().out == ""
    assert office.states("prom") == [TokenState.CURRENT, TokenState.PENDING]
    office.answer = lambda generation: generation
    office.now += LEASE_S
    code, new, _ = office.run("rotate", "prom", f"--id={open_rotation(office, 'prom')}")
    assert code == 0
    assert office.store.find(digest(new.strip().encode())).current_from == office.now


def test_the_token_is_printed_after_the_server_has_taken_it_and_before_it_is_current(office, capsys):
    printed = []

    def answer(generation):
        printed.append(capsys.readouterr().out)
        return generation

    office.answer = answer
    office.run("create", "prom")
    assert printed[0] == ""
    assert MINTED.fullmatch(printed[1])


def test_without_a_standard_output_nothing_is_minted(office, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    code, _, err = office.run("create", "prom")
    assert code == 1
    assert "nothing was done" in err
    assert office.store.named("prom") == ()


class Contested(MemoryStore):
    """Others are faster, a few times."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def commit(self, change):
        if change.put and change.put[0].revoked_at is not None and self.times:
            self.times -= 1
            raise Conflict("another process changed prom at the same moment")
        return super().commit(change)


def test_a_revocation_wins_in_the_end(office):
    office.store = Contested(5)
    office.run("create", "prom")
    assert office.run("revoke", "prom")[0] == 0
    assert office.states("prom") == [TokenState.REVOKED]


def test_a_revocation_that_never_wins_says_so(office):
    office.store = Contested(1000)
    office.run("create", "prom")
    with pytest.raises(Conflict):
        office.run("revoke", "prom")


def test_the_listings(office):
    office.run("create", "prom")
    office.run("rotate", "prom")
    office.run("create", "grafana", "--kind=reader", "--expires=1d")
    old, new = (token.id for token in office.store.named("prom"))
    reader = office.store.named("grafana")[0].id
    assert office.run("list")[1].splitlines() == [
        "NAME     KIND    STATE    ID        MINTED                EXPIRES               PREVIOUS  PREVIOUS_UNTIL        SOURCE",  # noqa: E501
        f"grafana  reader  current  {reader}  2023-11-14T22:13:20Z  2023-11-15T22:13:20Z  0         -                     store",  # noqa: E501
        f"prom     write   current  {new}  2023-11-14T22:13:20Z  -                     1         2023-11-14T23:13:20Z  store",  # noqa: E501
    ]
    assert office.run("show", "prom")[1].splitlines() == [
        "ID        NAME  KIND   STATE     MINTED                ENDS                  EXPIRES  REVOKED  SOURCE",
        f"{old}  prom  write  previous  2023-11-14T22:13:20Z  2023-11-14T23:13:20Z  -        -        store",
        f"{new}  prom  write  current   2023-11-14T22:13:20Z  -                     -        -        store",
    ]
    assert json.loads(office.run("list", "--output=json")[1])[0] == {
        "name": "grafana",
        "kind": "reader",
        "state": "current",
        "id": reader,
        "minted": "2023-11-14T22:13:20Z",
        "expires": "2023-11-15T22:13:20Z",
        "previous": 0,
        "previous_until": None,
        "source": "store",
    }
    assert [line["state"] for line in json.loads(office.run("show", "prom", "--output=json")[1])] == [
        "previous",
        "current",
    ]


def test_a_listing_of_nothing(office):
    assert office.run("list") == (0, "", "")
    assert office.run("list", "--output=json") == (0, "[]\n", "")


def test_no_listing_shows_a_digest_or_a_secret(office):
    _, out, _ = office.run("create", "prom")
    (token,) = office.store.named("prom")
    for words in (["list"], ["show", "prom"], ["list", "--output=json"], ["show", "prom", "--output=json"]):
        _, listed, _ = office.run(*words)
        assert out.strip()[13:40] not in listed
        assert token.digest.hex() not in listed


# From here on: the whole command, with its config and its files.


def promgate(config, *words, **how):
    command = [sys.executable, "-m", "proxy", "token", *words, f"--config.file={config}"]
    how = {"capture_output": True, "text": True, "cwd": ROOT} | how
    return subprocess.run(command, **how)


def test_a_life_by_commands(config):
    created = promgate(config, "create", "prom")
    rotated = promgate(config, "rotate", "prom", "--overlap=10m")
    revoked = promgate(config, "revoke", "prom")
    assert [done.returncode for done in (created, rotated, revoked)] == [0, 0, 0]
    assert all(MINTED.fullmatch(done.stdout) for done in (created, rotated))
    assert "no server is running" in created.stderr
    with closing(open_store(config.parent / "state" / "promgate.db")) as store:
        seen = store.named("prom")
    assert [token.digest for token in seen] == [digest(d.stdout.strip().encode()) for d in (created, rotated)]
    assert [state_at(token, time.time()) for token in seen] == [TokenState.REVOKED] * 2


@pytest.mark.parametrize("action", [["list"], ["rotate", "prom"], ["revoke", "prom"], ["show", "prom"]])
def test_only_create_makes_a_store(config, capsys, action):
    assert main(["token", *action, f"--config.file={config}"]) == 1
    assert "no token store is there" in capsys.readouterr().err
    assert not (config.parent / "state").exists()


@pytest.mark.parametrize(
    ("words", "why"), [(["a b"], "not a name"), (["prom", "--expires=36600d"], "100 years"), (["prom"], "audit")]
)
def test_a_create_that_is_refused_makes_no_store(config, capsys, words, why):
    if why == "audit":
        (config.parent / "taken").write_text("")
        config.write_text(config.read_text() + "audit: {file: taken/audit.jsonl}\n")
    assert main(["token", "create", *words, f"--config.file={config}"]) == 1
    assert why in capsys.readouterr().err
    assert not (config.parent / "state" / "promgate.db").exists()


def test_a_bad_config_is_named_with_its_line(config, capsys):
    config.write_text(config.read_text().replace("overlap_period: 1h", "overlap_period: soon"))
    assert main(["token", "list", f"--config.file={config}"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "promgate.yml:4: tokens.overlap_period:" in printed.err


def test_a_config_without_a_store_is_named(config, capsys):
    config.write_text(re.sub("tokens: .*", "", config.read_text()).replace("write_token", "none"))
    assert main(["token", "list", f"--config.file={config}"]) == 1
    assert capsys.readouterr().err.startswith("promgate: ")


def test_the_config_is_found_by_the_environment_and_in_the_directory(config):
    env = {key: value for key, value in os.environ.items() if key != "PROMGATE_CONFIG_FILE"} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "proxy", "token", "create"]
    how = {"capture_output": True, "text": True}
    named = env | {"PROMGATE_CONFIG_FILE": str(config)}
    assert subprocess.run([*command, "a"], env=named, cwd="/", **how).returncode == 0
    assert subprocess.run([*command, "b"], env=env, cwd=config.parent, **how).returncode == 0
    assert "promgate.yml: " in subprocess.run([*command, "c"], env=env, cwd="/", **how).stderr


def test_a_token_that_cannot_be_printed_is_no_loss_and_the_way_on_is_named(config):
    with Path("/dev/full").open("w") as full:
        done = promgate(config, "create", "prom", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    with closing(open_store(config.parent / "state" / "promgate.db")) as store:
        (rotation,) = store.story("prom").rotations
    assert done.returncode == 1
    assert "could not be printed" in done.stderr
    assert f"token rotate prom --id {rotation.id}" in done.stderr
    assert "Traceback" not in done.stderr
    again = promgate(config, "rotate", "prom", f"--id={rotation.id}")
    assert again.returncode == 0
    assert MINTED.fullmatch(again.stdout)


def test_a_running_server_uses_the_token_when_it_is_printed(config):
    path = config.parent / "state" / "promgate.db"

    async def serve():
        book = TokenBook()
        with closing(open_store(path)) as store:
            watch = StoreWatch(store, book, poll_s=HOUR)
            await watch.start()
            server = await serve_nudges(path, watch.sync)
            created = await asyncio.to_thread(promgate, config, "create", "prom")
            assert book.find(digest(created.stdout.strip().encode())).name == "prom"
            revoked = await asyncio.to_thread(promgate, config, "revoke", "prom")
            (token,) = book.tokens.values()
            assert state_at(token, time.time()) is TokenState.REVOKED
            server.close()
            await watch.stop()
        return created, revoked

    for done in asyncio.run(serve()):
        assert done.returncode == 0
        assert "no server" not in done.stderr


def test_a_command_goes_by_the_clock_of_the_running_server(config):
    """Which counts on from its start: a clock that was set meanwhile must not shorten an overlap, nor prolong it."""
    path = config.parent / "state" / "promgate.db"

    async def serve():
        with closing(open_store(path)) as store:
            watch = StoreWatch(store, TokenBook(), poll_s=HOUR)
            await watch.start()
            server = await serve_nudges(path, watch.sync, clock=lambda: time.time() - HOUR)
            assert (await asyncio.to_thread(promgate, config, "create", "prom")).returncode == 0
            assert (await asyncio.to_thread(promgate, config, "rotate", "prom")).returncode == 0
            server.close()
            await watch.stop()
            return store.named("prom")

    before = time.time() - HOUR
    old, new = asyncio.run(serve())
    after = time.time() - HOUR
    assert before < old.minted_at < new.minted_at < after
    assert new.current_from + HOUR == old.accepted_until
