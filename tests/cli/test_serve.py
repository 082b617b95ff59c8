"""What `promgate serve` is told on its command line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml

from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply
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


def serving(config_file, *words, port, **env):
    command = [*COMMAND, "serve", f"--config.file={config_file}", *words]
    return Process(command, config_file.parent / "log", lambda: accepts(port), env={**environment(), **env})


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


@pytest.mark.parametrize("words", [[], ["--log.format=json"]])
def test_what_is_wrong_at_the_start_is_in_the_log_s_own_form(config_file, words):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        for changes, code in ({"swizzle": 1, "listen": "0.0.0.0:1"}, 2), ({"insecure_plaintext": True}, 1):
            config_file.write_text(yaml.safe_dump({"listen": f":{port}", "routes": ROUTES, **changes}))
            done = run("serve", f"--config.file={config_file}", *words)
            assert done.returncode == 1
            told = [line for line in done.stderr.splitlines() if "error" in line]
            assert len(told) == code, done.stderr
            for line in done.stderr.splitlines():
                fields = json.loads(line) if words else dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line))
                assert list(fields) == ["ts", "level", "component", "msg"], line
    assert "cannot listen on :" in done.stderr


def heeds(pid, number):
    """Whether the process does not die of the signal (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn:", "SigCgt:"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def test_a_hangup_before_it_serves_does_no_harm(config_file):
    port = write(config_file, free_port())
    promgate = serving(config_file, port=port)
    sent = 0

    def serves():
        nonlocal sent
        if heeds(promgate.pid, signal.SIGHUP):
            os.kill(promgate.pid, signal.SIGHUP)
            sent += 1
        return accepts(port)

    promgate._ready = serves
    with promgate:
        wait_for(lambda: "serving on" in promgate.log, "the end of the start")
        assert sent > 0
        assert promgate.stop() == 0


def ask_in_vain(url):
    with suppress(OSError):
        fetch(url, timeout_s=60)


def test_it_says_that_it_leaves_before_it_does_and_hurries_when_told_twice(config_file):
    asked, release = Event(), Event()

    def answer(request):
        asked.set()
        release.wait(60)
        return Reply()

    with HttpServer(answer) as upstream:
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        route = {"name": "open", "path": "/", "upstream": upstream.base, "auth": "none"}
        written = {"listen": f"127.0.0.1:{port}", "timeouts": {"drain_delay": "10m", "drain": "10m"}, "routes": [route]}
        config_file.write_text(yaml.safe_dump(written))
        with serving(config_file, port=port) as promgate:
            assert fetch(f"{base}/-/ready").status == 200
            hanging = Thread(target=ask_in_vain, args=[f"{base}/x"])
            hanging.start()
            assert asked.wait(30)
            os.kill(promgate.pid, signal.SIGTERM)
            wait_for(lambda: fetch(f"{base}/-/ready").status == 503, "the word for load balancers")
            assert fetch(f"{base}/-/healthy").status == 200, "it goes on"
            assert "not ready any more; the listeners close in 600 s" in promgate.log
            assert promgate.stop() == 0
            assert "stopped, 1 connections cut" in promgate.log
            release.set()
            hanging.join()


@pytest.mark.parametrize("is_abstract", [False, True])
def test_a_service_manager_is_told(config_file, is_abstract):
    port = write(config_file, free_port())
    name = f"@promgate-{port}" if is_abstract else str(config_file.parent / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        manager.settimeout(30)
        with serving(config_file, port=port, NOTIFY_SOCKET=name) as promgate:
            assert manager.recv(100) == b"READY=1"
            assert promgate.stop() == 0
            assert manager.recv(100) == b"STOPPING=1"
