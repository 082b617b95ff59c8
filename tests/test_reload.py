"""What is taken for a change of the configuration, and what is made of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from proxy.config.read import load
from proxy.reload import Reload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from proxy.config.read import Loaded

GOOD = """\
basic_auth_users: {admin: $2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi}
roles: {admin: basic:admin}
reload: {watch: %s}
routes:
  - {name: %s, path: /prometheus, upstream: "http://127.0.0.1:9090", auth: basic, allow: admin}
"""
POLL_S = 0.02


def good(name: str = "first", watch: str = "true") -> str:
    return GOOD % (watch, name)


def put(path: Path, text: str) -> None:
    """Replace the file in one step, as careful writers do."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(path)


def remove(path: Path) -> None:
    path.unlink()


@contextlib.asynccontextmanager
async def following(path: Path) -> AsyncIterator[tuple[Reload, list[str]]]:
    """A Reload at work, and the names of the first routes of what was taken."""
    taken: list[str] = []

    def take(loaded: Loaded) -> None:
        taken.append(loaded.snapshot.routes[0].name)

    reload = Reload(load(path), poll_s=POLL_S)
    running = asyncio.create_task(reload.run(take))
    try:
        async with asyncio.timeout(60):
            yield reload, taken
    finally:
        running.cancel()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - the test's own timeout ends it
        await asyncio.sleep(POLL_S / 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "promgate.yml"
    path.write_text(good())
    return path


def test_a_changed_file_is_taken_once(path: Path) -> None:
    async def play() -> None:
        async with following(path) as (reload, taken):
            put(path, good("second"))
            await until(lambda: taken)
            await asyncio.sleep(5 * POLL_S)
            assert taken == ["second"]
            assert not reload.failed

    asyncio.run(play())


def test_it_waits_until_the_file_is_at_rest(path: Path) -> None:
    """What a slow writer has written so far may be lawful by chance."""

    async def play() -> None:
        async with following(path) as (_, taken):
            for turn in range(20):
                put(path, good(f"draft{turn}"))
                await asyncio.sleep(POLL_S / 4)
            put(path, good("done"))
            await until(lambda: "done" in taken)
            assert len(taken) < 10

    asyncio.run(play())


def test_a_bad_file_is_refused_once_and_the_next_good_one_taken(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with following(path) as (reload, taken):
            put(path, good("second") + "nonsense: 1\nmore: 2\n")
            await until(lambda: reload.failed)
            await asyncio.sleep(5 * POLL_S)
            assert taken == []
            put(path, good("third"))
            await until(lambda: taken)
            assert taken == ["third"]
            assert not reload.failed

    asyncio.run(play())
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "promgate.yml:6: nonsense: unknown key" in line
    assert "promgate.yml:7: more: unknown key" in line


def test_a_file_that_is_away_for_a_while(path: Path) -> None:
    async def play() -> None:
        async with following(path) as (reload, taken):
            remove(path)
            await until(lambda: reload.failed)
            put(path, good("back"))
            await until(lambda: taken == ["back"])

    asyncio.run(play())


def test_the_swap_of_a_mounted_config_map_is_seen(tmp_path: Path) -> None:
    """As the kubelet does it: promgate.yml -> ..data/promgate.yml, ..data -> ..1, and only `..data` is replaced."""
    for name in ("1", "2"):
        (tmp_path / f"..{name}").mkdir()
        (tmp_path / f"..{name}" / "promgate.yml").write_text(good(f"v{name}"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "promgate.yml").symlink_to("..data/promgate.yml")

    async def play() -> None:
        async with following(tmp_path / "promgate.yml") as (_, taken):
            (tmp_path / "..data_tmp").symlink_to("..2")
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")
            await until(lambda: taken == ["v2"])

    asyncio.run(play())


def test_a_file_that_an_option_names_is_watched_too(path: Path) -> None:
    issuer = "jwt: {issuer: https://idp, audience: promgate, jwks_file: keys.json}\n"
    path.write_text(good() + issuer)
    keys = path.with_name("keys.json")
    keys.write_text('{"keys": []}')

    async def play() -> None:
        async with following(path) as (reload, taken):
            put(keys, "no JSON")
            await until(lambda: reload.failed)
            put(keys, '{"keys": [ ]}')
            await until(lambda: taken == ["first"])

    asyncio.run(play())


def test_without_watch_nothing_is_taken_before_it_is_asked_for(path: Path) -> None:
    path.write_text(good(watch="false"))

    async def play() -> None:
        async with following(path) as (reload, taken):
            put(path, good("second", watch="false"))
            await asyncio.sleep(5 * POLL_S)
            assert taken == []
            reload.ask()
            await until(lambda: taken == ["second"])
            put(path, good("third", watch="true"))
            reload.ask()
            await until(lambda: taken == ["second", "third"])
            put(path, good("fourth"))  # watched from now on
            await until(lambda: taken[-1] == "fourth")

    asyncio.run(play())


def test_a_file_that_was_only_touched_is_the_same_configuration(path: Path) -> None:
    """Taking it again harms nothing; that it ends is what counts."""

    async def play() -> None:
        async with following(path) as (_, taken):
            os.utime(path)
            await until(lambda: taken)
            await asyncio.sleep(5 * POLL_S)
            assert taken == ["first"]

    asyncio.run(play())


def test_what_cannot_be_made_ready_is_not_taken_and_said(path: Path) -> None:
    path.write_text(good(watch="false"))

    async def play() -> None:
        order: list[str] = []
        is_broken = True

        async def prepare(loaded: Loaded) -> None:
            await asyncio.sleep(0)
            if is_broken:
                raise OSError("no room")
            order.append(f"ready for {loaded.snapshot.routes[0].name}")

        reload = Reload(load(path), poll_s=POLL_S)
        running = asyncio.create_task(reload.run(lambda fresh: order.append(fresh.snapshot.routes[0].name), prepare))
        async with asyncio.timeout(10):
            put(path, good("second", watch="false"))
            (problem,) = await reload.now()
            assert "no room" in problem
            assert reload.failed
            assert order == []
            is_broken = False
            assert await reload.now() == []
        assert order == ["ready for second", "second"]
        assert not reload.failed
        running.cancel()

    asyncio.run(play())
