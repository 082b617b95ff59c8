"""What is wrong with the bytes of a file, and what reading it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.config.problem import Report
from proxy.config.read import ConfigError, load

LEAST = (Path(__file__).parent / "testdata" / "least.good.yml").read_bytes()


def problems_of(path, **options):
    with pytest.raises(ConfigError) as refused:
        load(path, **options)
    return [str(problem).removeprefix(f"{path}") for problem in refused.value.problems]


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "promgate.yml"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xef\xbb\xbf" + LEAST, ":1: the file starts with a byte order mark; save it as UTF-8 without one"),
        ("\ufeff".encode("utf-16-le") + LEAST, ":1: not UTF-8; save the file as UTF-8"),
        (LEAST + b"# caf\xe9\n", f":{len(LEAST.splitlines()) + 1}: not UTF-8; save the file as UTF-8"),
        (b"version: 1\n\x00\n", ":2: a control character stands here; a configuration is plain text"),
        (b"# \x1b[31m\n", ":1: a control character stands here; a configuration is plain text"),
        (b"#" * (4 * 1024 * 1024 + 1), ": larger than 4194304 bytes; this is no configuration"),
        (b"[" * 100_000, ":1: nested more than 32 deep; no configuration is"),
        (b"- " * 100_000, ":1: nested more than 32 deep; no configuration is"),
        (b"? " * 100_000, ":1: nested more than 32 deep; no configuration is"),
        (b"a: " + b"{a: " * 100_000, ":1: nested more than 32 deep; no configuration is"),
        (b"\n---\n- a\n", ":3: a mapping of options is wanted here, not a list"),
    ],
)
def test_bytes(write, content, problem):
    assert problems_of(write(content)) == [problem]


def test_a_file_that_is_not_there(tmp_path):
    assert problems_of(tmp_path / "no.yml") == [": cannot be read: No such file or directory"]
    assert problems_of(tmp_path) == [": cannot be read: Is a directory"]


def test_a_file_that_anybody_can_change(write):
    path = write(LEAST)
    path.chmod(0o666)
    assert problems_of(path) == [": anybody on this machine can change the file (mode 0666); run chmod o-w"]


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch, write):
    path = write(LEAST + b"tokens: {store: 'sqlite:///state/tokens.db'}\naccess_log: {file: ../access.log}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings = load(Path("../promgate.yml")).settings
    assert settings.path.samefile(path)
    assert settings.path.is_absolute()
    assert settings.store is not None
    assert settings.store.is_absolute()
    assert settings.store.parent.parent.samefile(tmp_path)
    assert settings.access_log.file is not None
    assert settings.access_log.file.parent.samefile(tmp_path.parent)


def test_an_absolute_store_stays_where_it_is(write):
    path = write(LEAST + b"tokens: {store: 'sqlite:////var/lib/promgate/promgate.db'}\n")
    assert load(path).settings.store == Path("/var/lib/promgate/promgate.db")


def test_a_value_from_the_environment_is_not_read_as_yaml(write):
    routes = LEAST.replace(b"name: prometheus", b"name: ${env:NAME}")
    assert load(write(routes), env={"NAME": "a.b"}).snapshot.routes[0].name == "a.b"
    assert problems_of(write(routes), env={"NAME": "x\nallow: [anyone]"}) == [
        ":4: routes[0].name: what '${env:NAME}' stands for cannot be taken; a name is wanted"
    ]


def test_commands_on_the_store_open_no_other_file(write, tmp_path):
    path = write(
        LEAST
        + b"tls_server_config: {cert_file: no.crt, key_file: no.key}\naccess_log: {file: no/access.log}\n"
        + b"jwt: {issuer: https://id, audience: a, jwks_file: no.json}\n"
    )
    assert len(problems_of(path)) == 4
    loaded = load(path, open_files=False)
    assert loaded.snapshot.jwt_issuers == ()
    assert loaded.settings.tls is not None
    assert loaded.settings.tls.cert_file == tmp_path / "no.crt"


def test_hashes_are_not_in_any_repr(write):
    loaded = load(write(LEAST))
    assert loaded.snapshot.users["admin"][0].startswith(b"$2b$10$")
    assert "$2b$" not in repr(loaded)


@pytest.mark.parametrize(
    ("path", "sound", "was_read"),
    [
        ("tokens.store", False, False),
        ("tokens.store[0]", False, False),
        ("tokens", False, True),
        ("tokens.store_file", True, True),
        ("token", True, True),
        ("", True, True),
    ],
)
def test_what_a_problem_makes_doubtful(path, sound, was_read):
    report = Report("f")
    report.problem("tokens.store", "is wrong")
    assert report.is_sound(path) is sound
    assert report.was_read(path) is was_read


def test_reading_imports_only_what_it_needs(write):
    """`promgate token rotate` reads the configuration too, and has 100 ms for everything."""
    path = write(LEAST)
    code = (
        "import sys; from pathlib import Path; from proxy.config.read import load;"
        f"load(Path({str(path)!r})); print(*sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": root}
    )
    heavy = {"asyncio", "bcrypt", "cryptography", "difflib", "json", "logging", "proxy.config.docs", "ssl", "uvloop"}
    assert heavy.isdisjoint(done.stdout.split())
