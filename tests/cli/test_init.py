"""`promgate init`: made once, kept for good, and completed by the next run wherever a kill has stopped one."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
from itertools import count

import bcrypt
import pytest

from proxy import first_start
from proxy.cli import init, main
from proxy.stores.sqlite import SqliteStore, open_store
from proxy.tokens.secret import digest

CONFIG = """
version: 1
listen: [127.0.0.1:9443]
tls_server_config: {cert_file: state/certs/server.crt, key_file: state/certs/server.key}
tokens: {store: "sqlite:///state/promgate.db"}
htpasswd_file: state/users.htpasswd
roles: {admin: ["basic:admin"]}
routes:
  - {name: write, path: /api/v1/write, methods: POST, upstream: "http://127.0.0.1:9090", kind: remote_write,
     auth: write_token, allow: write}
  - {name: read, path: /, upstream: "http://127.0.0.1:9090", auth: basic, allow: admin}
"""
SECRETS = ("admin.password", "users.htpasswd", "agent.token", "certs/ca.key", "certs/server.key", "promgate.db")
#: What senders, people and clients may have seen already.
FOR_OTHERS = ("admin.password", "agent.token", "certs/ca.crt", "certs/server.crt")
KILLED = 99


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def place(tmp_path):
    """A directory with a config whose state directory is missing."""
    (tmp_path / "promgate.yml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def init_in(place):
    """Run `promgate init` as the compose file does; its exit code."""

    def run(*words):
        default = ("--dns=localhost", "--ip=127.0.0.1", "--admin-password", "--write-token=agent")
        return main(["init", f"--config.file={place / 'promgate.yml'}", *(words or default)])

    return run


def contents(place):
    state = place / "state"
    return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}


def assert_complete(place):
    """Every secret is there and opens what it should, every file is for its owner alone, and no other is left."""
    state = place / "state"
    # SQLite's own files, and what a kill leaves of a store or a key before it has its name.
    others = ("promgate.db-", ".promgate.db.", "certs/.")
    names = {name for name in contents(place) if not name.startswith(others)}
    assert names == {*SECRETS, "certs/ca.crt", "certs/server.crt"}
    assert {name: stat.S_IMODE((state / name).stat().st_mode) for name in names} == dict.fromkeys(names, 0o600)
    password = (state / "admin.password").read_bytes().strip()
    user, _, hashed = (state / "users.htpasswd").read_bytes().strip().partition(b":")
    assert user == b"admin"
    assert bcrypt.checkpw(password, hashed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(state / "certs/server.crt", state / "certs/server.key")
    store = open_store(state / "promgate.db", make=False)
    (token,) = store.named("agent")
    assert token.digest == digest((state / "agent.token").read_bytes().strip())
    store.close()


def test_a_first_start_makes_everything_and_prints_no_secret(init_in, place, capsys):
    assert init_in() == 0
    assert_complete(place)
    printed = capsys.readouterr()
    assert printed.out == ""
    for name in ("admin.password", "agent.token"):
        assert str(place / "state" / name) in printed.err
        assert (place / "state" / name).read_text().strip() not in printed.err
    assert main(["check", f"--config.file={place / 'promgate.yml'}"]) == 0


def test_a_name_that_is_none_leaves_no_store(place, capsys):
    assert main(["init", f"--config.file={place / 'promgate.yml'}", "--write-token=a b"]) == 1
    assert "not a name" in capsys.readouterr().err
    assert not (place / "state" / "promgate.db").exists()


def test_a_second_start_changes_and_says_nothing(init_in, place, capsys):
    init_in()
    before = contents(place)
    capsys.readouterr()
    assert init_in() == 0
    assert contents(place) == before
    assert capsys.readouterr() == ("", "")


def test_a_secret_that_was_taken_away_is_not_made_again(init_in, place):
    init_in()
    taken = ("admin.password", "agent.token", "certs/ca.key")
    for name in taken:
        (place / "state" / name).unlink()
    assert init_in() == 0
    assert not any((place / "state" / name).exists() for name in taken)


@pytest.mark.parametrize(("lost", "kept"), [("users.htpasswd", "admin.password"), ("promgate.db", "agent.token")])
def test_a_secret_that_nothing_knows_any_more_is_not_overwritten(init_in, place, capsys, lost, kept):
    init_in()
    for file in (place / "state").glob(f"{lost}*"):
        file.unlink()
    before = (place / "state" / kept).read_text()
    assert init_in() == 1
    assert f"{kept}: is there, but nothing knows" in capsys.readouterr().err
    assert (place / "state" / kept).read_text() == before


def test_a_token_that_was_never_committed_is_not_handed_out(init_in, place):
    """Killed before the commit; then the operator minted one by hand."""
    init_in("--dns=localhost")
    main(["token", "create", "agent", f"--config.file={place / 'promgate.yml'}"])
    (place / "state/agent.token.new").write_text("pgw_never\n")
    assert init_in() == 0
    assert not list((place / "state").glob("agent.token*"))


def test_an_own_certificate_is_left_alone(init_in, place):
    certs = place / "state/certs"
    certs.mkdir(parents=True)
    (certs / "server.crt").write_text("brought along")
    assert init_in() == 0
    assert [path.name for path in certs.iterdir()] == ["server.crt"]


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("state/certs/server.key", "state/keys/server.key", "bring your own"),
        ('tokens: {store: "sqlite:///state/promgate.db"}', "", "tokens.store"),
    ],
)
def test_what_it_cannot_make_it_says(init_in, place, capsys, written, instead, said):
    config = place / "promgate.yml"
    config.write_text(CONFIG.replace(written, instead))
    assert init_in() == 1
    assert said in capsys.readouterr().err


def test_wherever_a_kill_strikes_the_next_run_completes_it(init_in, place, monkeypatch):
    """Rigged to die before or after the N-th step that outlasts a process, for every N until nothing is left to rig."""
    hashed = bcrypt.hashpw(b"same", bcrypt.gensalt(4)).decode()
    monkeypatch.setattr(first_start.secrets, "token_urlsafe", lambda _: "same")
    monkeypatch.setattr(init, "_hash", lambda _: hashed)
    for moment in count(1):
        child = os.fork()
        if child == 0:
            _die_at(moment)
            os._exit(init_in())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in {0, KILLED}
        had_name = {name: text for name, text in contents(place).items() if name in FOR_OTHERS}
        assert init_in() == 0
        assert_complete(place)
        assert had_name.items() <= contents(place).items(), "what had its name was made again"
        if code == 0:
            break
        shutil.rmtree(place / "state")
    assert moment > 40, "hardly a step was rigged"


def _die_at(moment):
    """In this process: count the moments before and after each open, sync, rename and commit, and end at one."""
    moments = count(1)

    def pass_or_die():
        if next(moments) == moment:
            os._exit(KILLED)

    def rig(owner, name):
        real = getattr(owner, name)

        def step(*args, **kwargs):
            pass_or_die()
            answer = real(*args, **kwargs)
            pass_or_die()
            return answer

        setattr(owner, name, step)

    for owner, name in ((os, "open"), (os, "fsync"), (os, "replace"), (SqliteStore, "commit")):
        rig(owner, name)
