"""`rotate --due [--all]` and `revoke --digest`: what cron and a scanner of leaks call, on a real store."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from contextlib import closing

import pytest

from proxy.cli import main
from proxy.stores.sqlite import open_store
from proxy.tokens.secret import digest
from proxy.tokens.token import TokenState, state_at
from tests.tokens.play import DAY


class Office:
    """Names `a` and `b`, delivered to files of theirs, and `c`, which is shown to whoever asks."""

    def __init__(self, config, capsys):
        self.capsys = capsys
        self.config = config
        self.store = config.parent / "state" / "promgate.db"
        self.places = {name: config.parent / name for name in ("a", "b")}
        for place in self.places.values():
            place.mkdir(mode=0o700)
        self.files = {name: place / "token" for name, place in self.places.items()}
        deliver = ", ".join(f"{name}: [{{file: {file}}}]" for name, file in self.files.items())
        more = f"max_overlap: 2h, rotation_period: 30d, deliver: {{{deliver}}}"
        config.write_text(config.read_text().replace("max_overlap: 2h", more))
        for name in ("a", "b", "c"):
            assert self.run("create", name)[0] == 0

    def run(self, *words):
        """What a job is told: exit code, stdout, stderr."""
        code = main(["token", *words, f"--config.file={self.config}"])
        printed = self.capsys.readouterr()
        return code, printed.out, printed.err

    def pass_days(self, days):
        with closing(sqlite3.connect(self.store)) as db, db:
            db.execute("UPDATE token SET minted_at = minted_at - ?1, current_from = current_from - ?1", [days * DAY])
            db.execute("UPDATE rotation SET started_at = started_at - ?1, current_at = current_at - ?1", [days * DAY])

    def held(self):
        return {name: file.read_text() for name, file in self.files.items()}

    def state_of(self, held):
        with closing(open_store(self.store)) as store:
            return state_at(store.find(digest(held.strip().encode())), time.time())


@pytest.fixture
def office(config, capsys):
    return Office(config, capsys)


def test_what_is_due_is_rotated_one_in_a_minute(office):
    first = office.held()
    code, out, err = office.run("rotate", "--due")
    assert (code, out) == (0, "")
    assert "nothing is due" in err
    assert office.held() == first

    office.pass_days(31)
    code, out, err = office.run("rotate", "--due")
    assert (code, out) == (0, "")
    assert "1 more due, one in a minute: b; --all rotates them at once" in err
    second = office.held()
    assert second["a"] != first["a"]
    assert second["b"] == first["b"]
    assert [office.state_of(one) for one in (second["a"], first["a"])] == [TokenState.CURRENT, TokenState.PREVIOUS]

    # A job that runs again at once begins no other.
    assert office.run("rotate", "--due")[0] == 0
    assert office.held() == second

    code, out, err = office.run("rotate", "--due", "--all")
    assert (code, out) == (0, "")
    assert "more due" not in err
    third = office.held()
    assert third["a"] == second["a"]
    assert office.state_of(third["b"]) is TokenState.CURRENT
    assert third["b"] != first["b"]
    assert "nothing is due" in office.run("rotate", "--due", "--all")[2]


def test_all_that_are_due_at_once(office):
    office.pass_days(31)
    first = office.held()
    code, out, _ = office.run("rotate", "--due", "--all")
    assert (code, out) == (0, "")
    assert all(office.held()[name] != first[name] for name in ("a", "b"))
    with closing(open_store(office.store)) as store:
        assert len(store.named("c")) == 1, "nobody would receive it"


def test_a_job_is_told_that_a_delivery_failed_and_the_next_one_goes_on(office):
    office.pass_days(31)
    first = office.held()
    away = office.places["a"].with_name("away")
    office.places["a"].rename(away)
    code, out, err = office.run("rotate", "--due", "--all")
    assert (code, out) == (1, "")
    assert str(office.files["a"]) in err
    assert "Traceback" not in err
    away.rename(office.places["a"])
    held = office.held()
    assert held["a"] == first["a"]
    assert held["b"] != first["b"]
    assert office.state_of(held["a"]) is TokenState.CURRENT

    code, out, err = office.run("rotate", "--due")
    assert (code, out) == (0, ""), err
    assert office.held()["a"] != first["a"]
    assert office.state_of(office.held()["a"]) is TokenState.CURRENT


@pytest.mark.parametrize("words", [["--all"], ["--due", "a"], []])
def test_a_job_that_does_not_say_what_is_wrong_usage(office, words):
    code, out, _ = office.run("rotate", *words)
    assert (code, out) == (2, "")


@pytest.mark.parametrize("spelt", [str.lower, str.upper])
def test_a_leaked_token_is_ended_by_its_digest(office, spelt):
    """Whoever found it need not show it: `printf %s TOKEN | sha256sum` is enough."""
    first = office.held()
    leaked = first["a"].strip()
    code, out, err = office.run("revoke", "--digest", spelt(hashlib.sha256(leaked.encode()).hexdigest()))
    assert (code, out) == (0, ""), err
    assert f"token {leaked.split('_')[1]} leaked and is revoked" in err
    assert leaked not in err
    assert office.state_of(leaked) is TokenState.REVOKED
    assert office.state_of(office.held()["a"]) is TokenState.CURRENT
    assert office.held()["b"] == first["b"]
    assert office.files["a"].stat().st_mode & 0o777 == 0o600


def test_a_digest_of_no_token_does_nothing(office):
    before = office.held()
    code, out, err = office.run("revoke", "--digest", "0" * 64)
    assert (code, out) == (1, "")
    assert "that is no token of this store" in err
    assert office.held() == before


@pytest.mark.parametrize("shown", ["", "0" * 63, "0" * 65, "g" * 64, "pgw_AAAAAAAA_x"])
def test_what_is_no_digest_is_wrong_usage(office, shown):
    code, out, err = office.run("revoke", "--digest", shown)
    assert (code, out) == (2, "")
    assert "a SHA-256 is 64 hexadecimal digits" in err
