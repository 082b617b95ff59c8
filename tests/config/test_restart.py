"""What a reload cannot change: told, and the Snapshot fits the process that serves by it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from proxy.config.read import ConfigError, load
from proxy.config.restart import AT_START, options_waiting
from proxy.config.schema import Settings

HASH = "$2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi"
LEAST = {
    "basic_auth_users": {"root": HASH},
    "roles": {"admin": ["basic:root"]},
    "routes": [{"name": "all", "path": "/", "upstream": "http://127.0.0.1:9", "auth": "basic", "allow": "admin"}],
}
OWN, OTHER = {"listen": "127.0.0.1:9110"}, {"listen": "127.0.0.1:9111"}


def put(path, **changes):
    path.write_text(yaml.safe_dump({**LEAST, **changes}))
    path.chmod(0o600)
    return path


def places(loaded):
    """Where the console is: on the public listener, on one of its own."""
    return tuple(
        [route.path for route in routes if route.name == "promgate:console"]
        for routes in (loaded.snapshot.routes, loaded.snapshot.console)
    )


PUBLIC, OWNS, NOWHERE = (["/-/console"], []), ([], ["/-/console"]), ([], [])


@pytest.mark.parametrize(
    ("steps", "place", "waits"),
    [
        ([{"console": {}}, {"console": {}, "control_prefix": "/ops"}], PUBLIC, {"control_prefix"}),
        ([{"console": {}}, {"console": OWN}], PUBLIC, {"console.listen"}),
        ([{"console": {}}, {"console": OWN}, {"console": OTHER}], PUBLIC, {"console.listen"}),
        ([{"console": {}}, {"console": OWN}, {"console": {}}], PUBLIC, set()),
        ([{"console": OWN}, {"console": {}}], OWNS, {"console.listen"}),
        ([{"console": OWN}, {"console": OTHER}], OWNS, {"console.listen"}),
        ([{"console": OWN}, {}], NOWHERE, {"console.listen"}),
        ([{"console": OWN}, {}, {"console": {}}], OWNS, {"console.listen"}),
        ([{"console": OWN}, {}, {"console": OWN}], OWNS, set()),
        ([{}, {"console": {}}], PUBLIC, set()),
        ([{}, {"console": {}}, {"console": OWN}], PUBLIC, {"console.listen"}),
        ([{}, {"console": {}, "control_prefix": "/ops"}], PUBLIC, {"control_prefix"}),
        # Its own listener is not open: it is nowhere, and never on the public one, where nobody wanted it.
        ([{}, {"console": OWN}], OWNS, {"console.listen"}),
        ([{}, {"console": OWN}, {"console": OWN}], OWNS, {"console.listen"}),
        ([{}, {"console": OWN}, {"console": {}}], PUBLIC, set()),
    ],
)
def test_the_console_stays_where_it_answers(tmp_path, steps, place, waits):
    path = tmp_path / "promgate.yml"
    first = running = load(put(path, **steps[0]))
    for step in steps[1:]:
        running = load(put(path, **step), running=running)
    assert places(running) == place
    assert set(options_waiting(first, running)) == waits
    assert running.settings.console_listen == first.settings.console_listen
    assert running.settings.control_prefix == first.settings.control_prefix == "/-"


def test_it_must_be_good_as_it_is_written_and_for_the_process(tmp_path):
    path = tmp_path / "promgate.yml"
    running = load(put(path, console={}))
    route = {**LEAST["routes"][0], "name": "own"}
    for prefix, place in (("/ops", "/ops/console"), ("/ops", "/-/console")):
        routes = [*LEAST["routes"], {**route, "path": place}]
        with pytest.raises(ConfigError) as refused:
            load(put(path, console={}, control_prefix=prefix, routes=routes), running=running)
        assert "a name of promgate itself" in str(refused.value)
        assert path in refused.value.files


def test_the_page_of_promises_has_every_option():
    page = (Path(__file__).parents[2] / "docs" / "behaviour.md").read_text(encoding="utf-8")
    told = re.search(r"waiting for a restart:(.*?)\. Until then", page, re.DOTALL)
    assert re.findall(r"`([^`]+)`", told[1]) == list(AT_START.values())
    assert set(AT_START) <= set(Settings._fields)
