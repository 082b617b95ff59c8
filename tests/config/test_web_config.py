"""A web-config.yml of Prometheus and its exporters, pasted as it is: each key is honoured, or refused by name.

testdata/web-config/ holds such files, named by their verdict. A bad one ends with what it must get, as in
`test_fixtures`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from proxy.config.docs import render
from proxy.config.read import ConfigError, load
from proxy.config.web_config import PROMETHEUS_KEYS
from tests.config.test_fixtures import expected

HERE = Path(__file__).parent / "testdata" / "web-config"
BAD = sorted(HERE.glob("*.bad.yml"))
GOOD = sorted(HERE.glob("*.good.yml"))
ROUTES = 'routes: [{name: prometheus, path: /prometheus, upstream: "http://127.0.0.1:9090", auth: none}]\n'


def name_of(path):
    return path.name


@pytest.fixture
def paste(tmp_path, certs):
    """What promgate says of such a file with a route below it."""
    shutil.copytree(certs, tmp_path, dirs_exist_ok=True)

    def load_with_routes(path):
        pasted = tmp_path / path.name
        pasted.write_text(path.read_text() + ROUTES)
        return load(pasted)

    return load_with_routes


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_good(path, paste):
    assert paste(path).snapshot.routes


@pytest.mark.parametrize("path", BAD, ids=name_of)
def test_bad(path, paste, tmp_path):
    """T3: of the kinds of client certificates too: unverified ones, and those of nobody, are refused at load."""
    with pytest.raises(ConfigError) as refused:
        paste(path)
    found = [str(problem).removeprefix(f"{tmp_path}/") for problem in refused.value.problems]
    assert found == expected(path, "# expect: ")


def test_each_key_is_tried():
    tried = set()
    for path in (*GOOD, *BAD):
        for key, value in yaml.safe_load(path.read_text()).items():
            whole = key not in {"tls_server_config", "http_server_config"}
            tried |= {key} if whole else {f"{key}.{inner}" for inner in value}
    assert set(PROMETHEUS_KEYS) <= tried


def test_the_page_has_a_row_for_each_key():
    _, _, table = render().partition("## Prometheus' web config, key by key\n")
    table = table.partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([^`]+)` \| (honoured|refused)", table, re.MULTILINE))
    assert list(rows) == list(PROMETHEUS_KEYS)
    assert {key for key, verdict in rows.items() if verdict == "honoured"} == {
        "basic_auth_users",
        *(
            f"tls_server_config.{key}"
            for key in (
                "cert_file",
                "key_file",
                "client_auth_type",
                "client_ca_file",
                "client_allowed_sans",
                "min_version",
                "max_version",
            )
        ),
    }
