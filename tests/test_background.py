"""Work beside everything else: a defect in it is told at once, and an end that was asked for is none."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from proxy.background import begin
from proxy.parts import in_background


async def _break() -> None:
    raise ZeroDivisionError("a defect")


async def _end() -> None:
    pass


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_defect_is_told_while_somebody_holds_the_task(is_kept: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    async def act() -> None:
        async with AsyncExitStack() as stack:
            if is_kept:
                in_background(stack, _break())
                task = None
            else:
                task = begin(_break())
            for _ in range(3):
                await asyncio.sleep(0)
            (record,) = caplog.records
            assert (record.levelno, "_break ended by a defect" in record.message) == (logging.ERROR, True)
            assert record.exc_info is not None
            assert "a defect" in caplog.text
            del task

    asyncio.run(act())
    assert len(caplog.records) == 1


def test_what_ends_or_is_ended_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        async with AsyncExitStack() as stack:
            in_background(stack, asyncio.sleep(60))
            await begin(_end())

    asyncio.run(act())
    assert caplog.records == []
