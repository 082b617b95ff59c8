from __future__ import annotations

import json
import logging
import os
import sys

import pytest

from proxy.observe.process_log import set_up_logging


@pytest.fixture(autouse=True)
def _as_before():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_pipe_that_nobody_reads_stops_nobody(monkeypatch):
    """stderr of a container whose log driver hangs: lines are lost, the loop goes on, and no line is half a line."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        set_up_logging("info", "json")
        log = logging.getLogger("promgate.test")
        for number in range(2000):
            log.warning("line %d %s", number, "x" * (number % 9000))
        kept = os.read(reader.fileno(), 1 << 20)
        log.warning("after")
        kept += os.read(reader.fileno(), 1 << 20)
    lines = kept.decode().splitlines()
    whole = [json.loads(line) for line in lines if line.endswith("}")]
    assert whole[-1]["msg"] == "after"
    assert len(lines) - len(whole) <= 1 + len(lines) // 10
    assert whole[0]["msg"].startswith("line 0 ")


def test_no_text_makes_a_second_line(monkeypatch, tmp_path):
    with (tmp_path / "log").open("w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        set_up_logging("info", "logfmt")
        logging.getLogger("promgate.test").warning("one\ntwo \ud800")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith('component=test msg="one\\ntwo \\ud800"')
