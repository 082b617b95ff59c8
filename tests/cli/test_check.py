from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.cli import main

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
