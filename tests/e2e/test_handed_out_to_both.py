"""Two servers on one store: whatever a command hands out is taken by both at once, and by the one that is left."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.kit.fetch import ask, bearer, connect
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import WRITE_PATH, Promgate, write_route
from tests.kit.warm_cli import WarmCli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

ROTATIONS = 40
#: Enough that no name has more than 16 previous tokens, its limit, within the overlap of a second.
NAMES = 5


class Pair:
    """Both, and a command line on their store."""

    def __init__(self, directory: Path, receiver: str, warm: WarmCli) -> None:
        config = {
            "tokens": {
                "store": f"sqlite:///{directory / 'tokens.db'}", "overlap_period": "1s", "retry_grace": "0s"
            },
            "routes": [write_route(receiver)],
        }  # fmt: skip
        self.servers = [Promgate(directory / name, config) for name in ("first", "second")]
        self._warm = warm

    def command(self, *words: str) -> str:
        done = self._warm.run("token", *words, f"--config.file={self.servers[0].config_file}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def post(self, token: str) -> list[int]:
        """What each server answers to it, on a connection of its own."""
        return [_post(server, token) for server in self.servers]


def _post(server: Promgate, token: str) -> int:
    connection = connect(server.base, ca_file=server.ca_file)
    with contextlib.closing(connection):
        return ask(connection, "POST", WRITE_PATH, body=b"x", headers=bearer(token)).status


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with HttpServer(lambda _: Reply(204)) as receiver, WarmCli() as warm:
        made = Pair(tmp_path, receiver.base, warm)
        with made.servers[0], made.servers[1]:
            yield made


def test_both_take_what_is_handed_out_at_once(pair: Pair) -> None:
    names = [f"sender-{number}" for number in range(NAMES)]
    first = [pair.post(pair.command("create", name)) for name in names]
    first += [pair.post(pair.command("rotate", names[number % NAMES])) for number in range(ROTATIONS)]
    assert first == [[204, 204]] * (NAMES + ROTATIONS)


def test_whichever_is_killed_the_other_one_takes_what_is_handed_out(pair: Pair) -> None:
    pair.command("create", "sender")
    for dead, alive in (pair.servers, reversed(pair.servers)):
        dead.kill()
        fresh = pair.command("rotate", "sender")
        assert _post(alive, fresh) == 204
        dead.start()
        assert pair.post(fresh) == [204, 204]
        assert pair.post(pair.command("rotate", "sender")) == [204, 204]
