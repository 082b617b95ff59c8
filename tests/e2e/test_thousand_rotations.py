"""The command's promise against a busy server: when it returned, the server knows.

After `token rotate` the very first request with the new token is relayed; after `token revoke` no request started more
than a second later is. A thousand times, since what is at stake is a race.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit.fetch import ask, bearer, connect
from tests.kit.prometheus import Receiver
from tests.kit.promgate import WRITE_PATH, Promgate, run, write_route
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.warm_cli import WarmCli

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterator

#: Each rotation is four transactions, each on the disk before the next.
pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

ROTATIONS = 1000
#: One command of so many is a process of its own, as an operator starts it.
COLD_EACH = 20
#: Enough that no name has more than 16 previous tokens, its limit, within the overlap of a second.
NAMES = 40
REVOCATIONS = 100
BUSY_CLIENTS = 3


class Stand(NamedTuple):
    """A promgate under load before a real receiver, and the ways to command it."""

    promgate: Promgate
    warm: WarmCli
    connection: http.client.HTTPConnection

    def command(self, *arguments: str, cold: bool = False) -> str:
        arguments = ("token", *arguments, f"--config.file={self.promgate.config_file}")
        done = run(*arguments) if cold else self.warm.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


BODY = build_body("by_hand", 1.0)  # a receiver answers 204 to the same sample again


def post(connection: http.client.HTTPConnection, token: str) -> int:
    return ask(connection, "POST", WRITE_PATH, body=BODY, headers=HEADERS | bearer(token)).status


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    directory = tmp_path_factory.mktemp("thousand")
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver(directory / "receiver"))
        config = {
            "tokens": {"overlap_period": "1s", "retry_grace": "0s"},
            "routes": [write_route(f"http://127.0.0.1:{receiver.port}")],
        }
        promgate = stack.enter_context(Promgate(directory / "promgate", config))
        stack.enter_context(_load(promgate, promgate.token("create", "busy")))
        warm = stack.enter_context(WarmCli())
        connection = connect(promgate.base, ca_file=promgate.ca_file)
        stack.callback(connection.close)
        yield Stand(promgate, warm, connection)


@contextlib.contextmanager
def _load(promgate: Promgate, token: str) -> Iterator[None]:
    """Kept-alive clients that post without a pause; each must have been answered with success alone."""
    over = threading.Event()
    statuses: list[set[int]] = [set() for _ in range(BUSY_CLIENTS)]

    def keep_posting(seen: set[int]) -> None:
        connection = connect(promgate.base, ca_file=promgate.ca_file)
        while not over.is_set():
            seen.add(post(connection, token))
        connection.close()

    threads = [threading.Thread(target=keep_posting, args=(seen,)) for seen in statuses]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert statuses == [{204}] * BUSY_CLIENTS


def test_the_first_request_with_a_new_token_is_relayed_each_time(stand: Stand) -> None:
    names = [f"sender-{number}" for number in range(NAMES)]
    for name in names:
        assert post(stand.connection, stand.command("create", name)) == 204
    first = []
    for number in range(ROTATIONS):
        fresh = stand.command("rotate", names[number % NAMES], cold=number % COLD_EACH == 0)
        first.append(post(stand.connection, fresh))
    assert first == [204] * ROTATIONS


def test_a_revoked_token_opens_nothing_a_second_later(stand: Stand) -> None:
    revoked: deque[tuple[float, str, http.client.HTTPConnection]] = deque()
    late: list[tuple[int, int]] = []

    def check_oldest() -> None:
        returned_at, token, used = revoked.popleft()
        time.sleep(max(0.0, returned_at + 1.0 - time.monotonic()))  # the promise is about this time
        late.append((post(used, token), post(stand.connection, token)))
        used.close()

    for number in range(REVOCATIONS):
        token = stand.command("create", f"leaked-{number}")
        used = connect(stand.promgate.base, ca_file=stand.promgate.ca_file)
        assert post(used, token) == 204  # a connection that has been let in before must not be believed for ever
        stand.command("revoke", f"leaked-{number}", cold=number % COLD_EACH == 0)
        revoked.append((time.monotonic(), token, used))
        while revoked and time.monotonic() - revoked[0][0] >= 1.0:
            check_oldest()
    while revoked:
        check_oldest()
    assert late == [(401, 401)] * REVOCATIONS
