"""One recorder, and one promgate of each kind, for a whole session."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.attacks.recorder import Recorder
from tests.attacks.relay import (
    Relay,
    Target,
    guarded_routes,
    open_routes,
    proxied_routes,
    strict_routes,
    stripped_routes,
)
from tests.kit.promgate import make_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.stop()


@contextmanager
def _target(
    recorder: Recorder,
    directories: pytest.TempPathFactory,
    routes: Callable[[Recorder], list[dict[str, Any]]],
    hello: bytes = b"",
    **more: Any,
) -> Iterator[Target]:
    relay = Relay(directories.mktemp("relay"), routes(recorder), **more)
    token = relay.token()
    with relay:
        yield Target(relay, recorder, token, hello)


@pytest.fixture(scope="session")
def open_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with _target(recorder, tmp_path_factory, open_routes) as target:
        yield target


@pytest.fixture(scope="session")
def strict_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with _target(recorder, tmp_path_factory, strict_routes) as target:
        yield target


@pytest.fixture(scope="session")
def guarded_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with _target(recorder, tmp_path_factory, guarded_routes) as target:
        yield target


@pytest.fixture(scope="session")
def proxied_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Whoever connects is a proxy, and must say for whom."""
    proxied = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.1"]}
    hello = b"PROXY TCP4 10.0.0.9 10.0.0.1 1234 443\r\n"
    with _target(recorder, tmp_path_factory, proxied_routes, hello, **proxied) as target:
        yield target


@pytest.fixture(scope="session")
def stripped_target(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with _target(recorder, tmp_path_factory, stripped_routes) as target:
        yield target


@pytest.fixture(scope="session")
def socket_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The same routes, and their upstream on a unix socket."""
    recorder = Recorder(tmp_path_factory.mktemp("socket") / "s")
    with _target(recorder, tmp_path_factory, stripped_routes) as target:
        yield target
    recorder.stop()


@pytest.fixture(scope="session")
def https_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The same routes, and their upstream speaks TLS."""
    certs = make_certificates(tmp_path_factory.mktemp("https") / "certs").parent
    recorder = Recorder(certs=certs)
    with _target(recorder, tmp_path_factory, stripped_routes) as target:
        yield target
    recorder.stop()


@pytest.fixture(scope="session")
def several_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The same routes, and two upstreams, of which the first is never there."""
    recorder = Recorder()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        recorder.upstream = {"url": [f"http://127.0.0.1:{nobody.getsockname()[1]}", recorder.url]}
        with _target(recorder, tmp_path_factory, stripped_routes) as target:
            yield target
    recorder.stop()
