from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from proxy.cli import main
from proxy.pki.authority import Leaf, issue, make_authority

TESTDATA = Path(__file__).parents[1] / "config" / "testdata"


@pytest.fixture(autouse=True)
def _in_testdata(monkeypatch):
    monkeypatch.chdir(TESTDATA)


def test_a_good_file(capsys):
    assert main(["check", "--config.file=least.good.yml"]) == 0
    assert capsys.readouterr() == ("least.good.yml: ok, 1 route\n", "")


def test_a_good_file_with_warnings(capsys):
    assert main(["check", "--config.file=wide-open.good.yml"]) == 0
    out, err = capsys.readouterr()
    assert out == "wide-open.good.yml: ok, 1 route, 2 warnings\n"
    assert err == (
        "warning: wide-open.good.yml:1: listen[0]: :9443 speaks without TLS: passwords and tokens cross the network "
        "in clear\nwarning: wide-open.good.yml:9: routes[0].auth: open to anybody who reaches the listener\n"
    )


def test_a_bad_file_shows_every_problem(capsys):
    assert main(["check", "--config.file=dozen.bad.yml"]) == 1
    out, err = capsys.readouterr()
    expected = [
        "dozen.bad.yml:" + line.removeprefix("# expect: ")
        for line in Path("dozen.bad.yml").read_text().splitlines()
        if line.startswith("# expect: ")
    ]
    assert len(expected) > 12
    assert (out, err.splitlines()) == ("", expected)


def test_json(capsys):
    assert main(["check", "--config.file=wide-open.good.yml", "--output=json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["file"], verdict["ok"], verdict["routes"]) == ("wide-open.good.yml", True, 1)
    assert [warning["line"] for warning in verdict["warnings"]] == [1, 9]

    assert main(["check", "--config.file=version-2.bad.yml", "--output=json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "file": "version-2.bad.yml",
        "ok": False,
        "routes": 0,
        "problems": [{"file": "version-2.bad.yml", "line": 1, "path": "version", "text": "'2' is not one of 1"}],
        "warnings": [],
    }


def test_a_file_that_is_not_there(capsys):
    assert main(["check", "--config.file=gone.yml"]) == 1
    assert capsys.readouterr().err == "gone.yml: cannot be read: No such file or directory\n"


def test_wrong_usage(capsys):
    assert main(["check", "--config=least.good.yml"]) == 2
    assert "unrecognized arguments: --config=least.good.yml" in capsys.readouterr().err


def _with_certificates(directory, days):
    """A configuration whose server pair, client authorities, upstream pair and authorities end in `days` each."""
    now = datetime.now(UTC)
    for name, left in days.items():
        made = directory / name
        made.mkdir()
        make_authority(made, now - timedelta(days=30))
        issue(made, Leaf("leaf", dns=["a"], days=300), now + timedelta(days=left - 300, minutes=90))
        for suffix in ("crt", "key"):
            (made / f"leaf.{suffix}").rename(directory / f"{name}.{suffix}")
    bundle = directory / "bundle.crt"
    bundle.write_text((directory / "server" / "ca.crt").read_text() + (directory / "clients.crt").read_text())
    file = directory / "promgate.yml"
    upstream = {
        "url": "https://127.0.0.1:9",
        "tls_config": {"ca_file": "trusted.crt", "cert_file": "shown.crt", "key_file": "shown.key"},
    }
    config = {
        "tls_server_config": {
            "cert_file": "server.crt",
            "key_file": "server.key",
            "client_auth_type": "VerifyClientCertIfGiven",
            "client_ca_file": "bundle.crt",
        },
        "roles": {"viewer": ["cert:CN=a"]},
        "routes": [{"name": "r", "path": "/", "upstream": upstream, "auth": "client_cert", "allow": "viewer"}],
    }
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def test_certificates_that_end_soon_are_warned_of(tmp_path, capsys):
    file = _with_certificates(tmp_path, {"server": 20, "clients": -2, "shown": 5, "trusted": 1})
    assert main(["check", f"--config.file={file}"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{file}: ok, 1 route, 4 warnings\n"
    told = [line.removeprefix(f"warning: {file}:") for line in err.splitlines()]
    at = "routes[0].upstream.tls_config"
    expected = [
        f"2: tls_server_config.cert_file: {tmp_path}/server.crt: the certificate in it ends in 20 days, at 20",
        f"5: tls_server_config.client_ca_file: {tmp_path}/bundle.crt: certificate 2 of 2 in it ended 46 hours ago, ",
        f"15: {at}.ca_file: {tmp_path}/trusted.crt: the certificate in it ends in 25 hours, at 20",
        f"16: {at}.cert_file: {tmp_path}/shown.crt: the certificate in it ends in 5 days, at 20",
    ]
    assert [line[: len(start)] for line, start in zip(sorted(told, key=_line), expected, strict=True)] == expected


def _line(told):
    return int(told.partition(":")[0])


def test_how_soon_a_certificate_may_end(tmp_path, capsys):
    file = _with_certificates(tmp_path, {"server": 20, "clients": 30, "shown": 40, "trusted": 50})
    for within, count in (("10d", 0), ("21d", 1), ("35d", 2), ("60d", 4)):
        assert main(["check", f"--config.file={file}", "--output=json", f"--expires-within={within}"]) == 0
        assert len(json.loads(capsys.readouterr().out)["warnings"]) == count
    assert main(["check", f"--config.file={file}", "--expires-within=soon"]) == 2
    assert "--expires-within" in capsys.readouterr().err
