"""What every sink does alike: run on each kind of place."""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.delivery.sinks import open_sinks
from proxy.tokens.ports import DeliveryError
from proxy.tokens.targets import CommandTarget, FileTarget, WebhookTarget
from tests.delivery.play import own_part, parcel
from tests.kit.http_server import Reply
from tests.stores.loops import on_both_loops, run

#: Takes a line from its standard input into a file; says it all on stderr, and fails, where the file `broken` is there.
PROGRAM = """
import os, pathlib, sys
line = sys.stdin.readline()
place = pathlib.Path(sys.argv[1])
if (place.parent / "broken").exists():
    sys.exit(f"cannot put {line.strip()}")
fresh = place.with_suffix(f".{os.getpid()}")
fresh.write_text(line)
fresh.rename(place)
"""


class FilePlace:
    def __init__(self, directory):
        self.path = directory / "deep" / "agent.token"
        self.path.parent.mkdir()
        self.where = FileTarget(str(self.path))

    def arrived(self):
        return self.path.read_text().removesuffix("\n") if self.path.exists() else None

    def break_it(self):
        self.path.unlink(missing_ok=True)
        self.path.mkdir()


class CommandPlace:
    def __init__(self, directory):
        self.path = directory / "taken"
        program = directory / "program.py"
        program.write_text(PROGRAM)
        self.where = CommandTarget((sys.executable, str(program), str(self.path)))

    def arrived(self):
        return self.path.read_text().removesuffix("\n") if self.path.exists() else None

    def break_it(self):
        (self.path.parent / "broken").touch()


class WebhookPlace:
    def __init__(self, directory, endpoint, pair):
        self.endpoint = endpoint
        key = directory / "key"
        key.write_text("a key of more than twenty-four bytes\n")
        self.where = WebhookTarget(f"{endpoint.base}/hook", str(key), str(pair / "ca.crt"))

    def arrived(self):
        return json.loads(self.endpoint.received[-1].body)["data"]["token"] if self.endpoint.received else None

    def break_it(self):
        self.endpoint.answer = lambda request: Reply(500, request.body)


@pytest.fixture(params=["file", "command", "webhook"])
def place(request, tmp_path):
    match request.param:
        case "file":
            return FilePlace(tmp_path)
        case "command":
            return CommandPlace(tmp_path)
        case _:
            return WebhookPlace(tmp_path, request.getfixturevalue("endpoint"), request.getfixturevalue("pair"))


@pytest.fixture
def sink(place):
    (sink,) = open_sinks([place.where])
    return sink


def test_nothing_happens_before_the_first_delivery(place, sink):
    assert sink.target
    assert place.arrived() is None


def test_the_token_arrives_whole_and_alone(place, sink):
    sent = parcel()
    sink.deliver(sent)
    assert place.arrived() == sent.secret.reveal()


def test_the_last_one_stays(place, sink):
    for seed in range(3):
        sink.deliver(parcel(seed))
    assert place.arrived() == parcel(2).secret.reveal()


def test_twice_does_no_harm(place, sink):
    sink.deliver(parcel())
    sink.deliver(parcel())
    assert place.arrived() == parcel().secret.reveal()


def test_the_target_is_stable_printable_and_without_a_secret(place, sink):
    before = sink.target
    sink.deliver(parcel())
    assert before == sink.target == place.where.target == open_sinks([place.where])[0].target
    assert sink.target.isprintable()
    assert sink.target.startswith(("file:/", "command:/", "webhook:https://"))
    assert own_part(parcel().secret) not in sink.target


def test_a_failure_names_the_target_and_never_the_secret(place, sink):
    place.break_it()
    with pytest.raises(DeliveryError) as failed:
        sink.deliver(parcel())
    text = str(failed.value)
    assert text.startswith(f"{sink.target}: ")
    assert "\n" not in text
    assert own_part(parcel().secret) not in text
    assert own_part(parcel().secret) not in repr(failed.value)


def test_many_at_once_leave_one_of_them_whole(place, sink):
    parcels = [parcel(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(sink.deliver, parcels))
    assert place.arrived() in {sent.secret.reveal() for sent in parcels}


@on_both_loops
def test_in_a_thread_of_either_loop(loop, place, sink):
    async def main():
        await asyncio.to_thread(sink.deliver, parcel(7))

    run(loop, main)
    assert place.arrived() == parcel(7).secret.reveal()


@on_both_loops
def test_a_failure_in_a_thread_of_either_loop(loop, place, sink):
    place.break_it()

    async def main():
        with pytest.raises(DeliveryError):
            await asyncio.to_thread(sink.deliver, parcel(7))

    run(loop, main)
