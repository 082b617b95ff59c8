"""The commands where the configuration lists digests: with no store, and beside one."""

from __future__ import annotations

import io
import json
import sys
from hashlib import sha256

import pytest
import yaml

from proxy.cli import main
from proxy.tokens.secret import looks_minted

NEW, OLD = "a new secret, of nobody but this test", "an old secret, of nobody but this test"


def digest(secret):
    return f"sha256:{sha256(secret.encode()).hexdigest()}"


@pytest.fixture
def run(tmp_path, capsys):
    """Runs `promgate`, with a configuration that lists two tokens of `agent`; (exit code, stdout, stderr)."""
    file = tmp_path / "promgate.yml"
    written = {
        "listen": "127.0.0.1:9443",
        "write_tokens": {"agent": [digest(NEW), digest(OLD)]},
        "routes": [
            {
                "name": "remote-write", "path": "/api/v1/write", "upstream": "http://127.0.0.1:9090",
                "kind": "remote_write", "auth": "write_token", "allow": "write",
            }
        ],
    }  # fmt: skip

    def run(*words, **more):
        file.write_text(yaml.safe_dump(written | more))
        code = main([*words, f"--config.file={file}"])
        printed = capsys.readouterr()
        assert NEW not in printed.out + printed.err
        assert OLD not in printed.out + printed.err
        return code, printed.out, printed.err

    return run


STORE = {"tokens": {"store": "sqlite:///promgate.db"}}


def test_without_a_store_they_are_told(run):
    (row,) = json.loads(run("token", "list", "--output=json")[1])
    assert (row["name"], row["source"], row["id"]) == ("agent", "configuration", digest(NEW)[:19])
    assert len(json.loads(run("token", "show", "agent", "--output=json")[1])) == 2
    assert "WAIT: the ledger cannot tell who uses what: nobody keeps one" in run("token", "status", "agent")[1]
    assert run("token", "status", "nobody")[0] == 1
    assert run("token", "rotate", "--due", "--dry-run")[::2] == (0, "promgate: nothing is due\n")


@pytest.mark.parametrize("more", [{}, STORE], ids=["alone", "beside a store"])
def test_no_command_changes_them(run, more):
    if more:
        assert run("token", "create", "other", **more)[0] == 0
    for command in ("rotate", "revoke", "rollback", "finish"):
        code, out, err = run("token", command, "agent", **more)
        assert (code, out) == (1, "")
        assert "stand in write_tokens of the configuration" in err


def test_without_a_store_nothing_is_created(run, tmp_path):
    code, out, err = run("token", "create", "agent")
    assert (code, out) == (1, "")
    assert "`promgate token digest --new` mints one for write_tokens" in err
    assert [path.name for path in tmp_path.iterdir()] == ["promgate.yml"]


def test_check_tells_what_the_store_has_too(run):
    assert run("check", **STORE)[2] == ""  # there is none yet
    run("token", "create", "agent", **STORE)
    code, _, err = run("check", **STORE)
    assert code == 0
    assert "write_tokens: agent has tokens in the store too: a rotation or revocation there does not end what" in err
    assert run("token", "revoke", "agent", **STORE)[0] == 1  # done, and not all of it
    assert run("check", **STORE)[2] == ""


@pytest.mark.parametrize("more", [{}, STORE], ids=["alone", "beside a store"])
def test_explain_knows_them(run, more):
    words = ("explain", "-X", "POST", "/api/v1/write", "--output=json")
    code, out, _ = run(*words, "--as=token:agent", **more)
    told = json.loads(out)
    assert (code, told["identity"], told["decision"]) == (0, "token:agent", "forward")
    assert told["token"] == f"{digest(NEW)[:19]} (write): current"
    assert json.loads(run(*words, f"-HAuthorization: Bearer {OLD.replace(' ', '-')}", **more)[1])["status"] == (
        503 if more else 401
    )


def make_digest(monkeypatch, capsys, shown, *words):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(shown)))
    return main(["token", "digest", *words]), *capsys.readouterr()


def test_the_digest_of_a_token(monkeypatch, capsys):
    secret = b"0123456789abcdef0123456789abcdef"
    for shown in (secret, secret + b"\n", b"  " + secret + b"\r\n"):
        assert make_digest(monkeypatch, capsys, shown) == (0, f"{digest(secret.decode())}\n", "")
    code, out, err = make_digest(monkeypatch, capsys, b"hunter2")
    assert (code, out) == (0, f"{digest('hunter2')}\n")
    assert "7 characters can be guessed by their digest" in err
    assert "hunter2" not in err


@pytest.mark.parametrize("shown", [b"", b" \n", b"two words", b"two\nlines", b"x" * 4097, b"\xff", b"a\0b"])
def test_what_is_no_token_has_no_digest(monkeypatch, capsys, shown):
    code, out, err = make_digest(monkeypatch, capsys, shown)
    assert (code, out) == (1, "")
    assert "give one token on stdin" in err


def test_a_new_token_and_its_digest(monkeypatch, capsys):
    code, out, err = make_digest(monkeypatch, capsys, b"", "--new")
    assert code == 0
    assert looks_minted(out.strip().encode())
    assert err == f"promgate: {digest(out.strip())}\n"
