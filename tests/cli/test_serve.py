"""What `promgate serve` is told on its command line."""

from __future__ import annotations

import json
import os
import signal

import pytest
import yaml

from tests.kit.process import Process, accepts, free_port
from tests.kit.promgate import COMMAND, environment, run
from tests.kit.wait import wait_for

ROUTES = [{"name": "open", "path": "/", "upstream": "http://127.0.0.1:9", "auth": "none"}]


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "promgate.yml"
    write(path, free_port())
    return path


def write(path, port):
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"version": 1, "listen": [f"127.0.0.1:{port}"], "routes": ROUTES}))
    fresh.replace(path)
    return port


def serving(config_file, *words, port):
    command = [*COMMAND, "serve", f"--config.file={config_file}", *words]
    return Process(command, config_file.parent / "log", lambda: accepts(port), env=environment())


def test_it_listens_where_it_is_told_and_stays_there_over_a_reload(config_file):
    own, *told = write(config_file, free_port()), free_port(), free_port()
    words = [f"--web.listen-address=127.0.0.1:{port}" for port in told]
    with serving(config_file, *words, "--log.format=json", "--log.level=debug", port=told[-1]) as promgate:
        assert [accepts(port) for port in (*told, own)] == [True, True, False]
        wait_for(lambda: "serving on" in promgate.log, "the handler of SIGHUP")
        write(config_file, free_port())
        os.kill(promgate.pid, signal.SIGHUP)
        wait_for(lambda: "1 routes" in promgate.log, "the reload")
        assert "not before a restart" not in promgate.log
        assert {json.loads(line)["level"] for line in promgate.log.splitlines()} >= {"info"}


def test_a_level_keeps_the_rest_out_of_the_log(config_file):
    port = write(config_file, free_port())
    with serving(config_file, "--log.level=error", port=port) as promgate:
        assert promgate.log == ""
    with serving(config_file, port=port) as promgate:
        wait_for(lambda: f'level=info component=server msg="serving on 127.0.0.1:{port}"' in promgate.log, "logfmt")


@pytest.mark.parametrize(
    ("word", "code", "says"),
    [
        ("--web.listen-address=here", 2, "--web.listen-address: 'here' has no port; write for example here:9443"),
        ("--web.listen-address=0.0.0.0:9443", 1, "listen: other machines reach 0.0.0.0:9443, and there is no TLS"),
        ("--log.level=loud", 2, "invalid choice: 'loud'"),
        ("--log.format=xml", 2, "invalid choice: 'xml'"),
    ],
)
def test_what_cannot_be_is_said(config_file, word, code, says):
    done = run("serve", f"--config.file={config_file}", word)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
