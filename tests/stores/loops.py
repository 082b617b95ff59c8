"""Both event loops that promgate runs on."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

on_both_loops = pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)


def run(loop, main):
    """Run the coroutine function `main` to its end, and fail if it takes longer than a patient man would wait."""

    async def bounded():
        async with asyncio.timeout(60):
            return await main()

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(bounded())


async def until(condition):
    """Wait until `condition()` holds; the test's own timeout ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - any condition, with no event of its own
        await asyncio.sleep(0.002)
