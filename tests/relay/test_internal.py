"""The connection to the control plane, and what is left of it when whoever wanted it leaves meanwhile: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from pathlib import Path

import pytest

from proxy.relay.internal import Internal
from tests.relay.stage import both_loops, on_a_loop, until


def open_sockets() -> set[str]:
    """libuv keeps a file of its own, so files are not counted."""
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the directory itself
            found.add(str(file.readlink()))
    return {one for one in found if "socket:" in one}


class End(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.BaseTransport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(transport)


@pytest.mark.parametrize("turns", range(6))
@both_loops
@on_a_loop
async def test_one_who_leaves_while_it_is_made_leaves_no_socket_open(loop: str, turns: int) -> None:
    internal = Internal()
    made: list[asyncio.BaseTransport] = []
    internal.serve = lambda: End(made)
    await asyncio.sleep(0)
    before = open_sockets()
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        connecting = asyncio.create_task(internal.connect(lambda: End(made)))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled():  # it was faster: whoever asked has it
            for transport in made:
                transport.close()
        del connecting
        gc.collect()
        # What an earlier test left may be closed meanwhile: only what is new counts.
        await until(lambda: not open_sockets() - before)
    assert not [one for one in left if issubclass(one.category, ResourceWarning)]
