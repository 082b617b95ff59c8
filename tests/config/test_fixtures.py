"""testdata/: each file is named by its verdict, and ends with the findings that it must get.

`# expect: LINE: PATH: TEXT` are the problems of a bad file, `# warning: ...` the warnings of a good one, all of
them and in this order. `{here}` stands for the directory of the file; a finding in another file begins with it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from proxy.config import document
from proxy.config.read import ConfigError, load

HERE = Path(__file__).parent / "testdata"
BAD = sorted(path.name for path in HERE.glob("*.bad.yml"))
GOOD = sorted(path.name for path in HERE.glob("*.good.yml"))
ENV = {"PROM_HOST": "prometheus.internal", "PROM_PORT": "9090", "MANY": "5000"}


@pytest.fixture(autouse=True)
def _in_testdata(monkeypatch):
    monkeypatch.chdir(HERE)


def expected(path, mark):
    """The findings that a file ends with, each with its name before it."""
    name = Path(path).name
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    found = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    whole = [line if line.startswith("{here}") else f"{name}:{line}" for line in found]
    return [line.replace("{here}", str(HERE)) for line in whole]


@pytest.mark.parametrize("name", BAD)
def test_bad(name):
    with pytest.raises(ConfigError) as refused:
        load(Path(name), env=ENV)
    assert [str(problem) for problem in refused.value.problems] == expected(name, "# expect: ")


@pytest.mark.parametrize("name", GOOD)
def test_good(name):
    loaded = load(Path(name), env=ENV)
    assert [str(warning) for warning in loaded.warnings] == expected(name, "# warning: ")


@pytest.mark.parametrize("name", GOOD)
def test_good_without_libyaml(name, monkeypatch):
    with_libyaml = load(Path(name), env=ENV)
    monkeypatch.setattr(document, "_Parser", yaml.SafeLoader)
    assert load(Path(name), env=ENV) == with_libyaml


@pytest.mark.parametrize("name", BAD)
def test_bad_without_libyaml(name, monkeypatch):
    """The pure parser words its syntax errors in its own way; the file is refused all the same."""
    monkeypatch.setattr(document, "_Parser", yaml.SafeLoader)
    with pytest.raises(ConfigError) as refused:
        load(Path(name), env=ENV)
    assert len(refused.value.problems) == len(expected(name, "# expect: "))


def test_there_are_many_of_both():
    assert len(BAD) >= 80
    assert len(GOOD) >= 8


@pytest.mark.parametrize("name", BAD)
def test_no_finding_repeats_a_secret(name):
    secrets = ("$2b$", "hunter2", "swordfish", "$apr1$", "fEqNC", "tell-nobody", "user:pass", "prometheus.internal")
    with pytest.raises(ConfigError) as refused:
        load(Path(name), env=ENV)
    assert not [secret for secret in secrets if secret in str(refused.value)]
    assert all(str(problem).isprintable() for problem in refused.value.problems)
