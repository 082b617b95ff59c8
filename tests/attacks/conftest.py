"""One recorder, and one promgate of each kind, for a whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.attacks.recorder import Recorder
from tests.attacks.relay import Relay, Target, guarded_routes, open_routes, strict_routes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.stop()


@pytest.fixture(scope="session")
def open_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    relay = Relay(tmp_path_factory.mktemp("open"), open_routes(recorder))
    token = relay.token()
    with relay:
        yield Target(relay, recorder, token)


@pytest.fixture(scope="session")
def strict_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    relay = Relay(tmp_path_factory.mktemp("strict"), strict_routes(recorder))
    token = relay.token()
    with relay:
        yield Target(relay, recorder, token)


@pytest.fixture(scope="session")
def guarded_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    relay = Relay(tmp_path_factory.mktemp("guarded"), guarded_routes(recorder))
    token = relay.token()
    with relay:
        yield Target(relay, recorder, token)
