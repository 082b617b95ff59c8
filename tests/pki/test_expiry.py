import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.expiry import CertificateEnds, tell_ending

NOW = datetime(2026, 5, 1, tzinfo=UTC)
DAY_S = 86400.0


def make(directory, *days):
    """ca.pem with an authority that lives for ten years, before certificates of these many days from NOW on."""
    directory.mkdir()
    make_authority(directory, NOW - timedelta(days=300))
    parts = [(directory / "ca.crt").read_text()]
    for number, count in enumerate(days):
        pair = issue(directory, Leaf(f"n{number}", dns=["a"], days=300), NOW + timedelta(days=count - 300))
        parts.append(pair.cert_file.read_text())
    file = directory / "ca.pem"
    file.write_text("# ours\n" + "".join(parts))
    return file


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ((), ""),
        ((22,), ""),
        ((20,), "certificate 2 of 2 in it ends in 20 days, at 2026-05-21T00:00:00Z: put a new one there"),
        ((20, 1), "certificate 3 of 3 in it ends in 24 hours, at 2026-05-02T00:00:00Z; so it is with 1 more"),
        ((-3, 100), "certificate 2 of 3 in it ended 3 days ago, at 2026-04-28T00:00:00Z: put"),
    ],
)
def test_what_ends_soon_is_told(tmp_path, days, said):
    told = tell_ending(make(tmp_path / "d", *days), NOW.timestamp())
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_how_soon_is_for_the_asker(tmp_path):
    file = make(tmp_path / "d", 22)
    assert tell_ending(file, NOW.timestamp(), 22 * DAY_S) == ""
    assert tell_ending(file, NOW.timestamp(), 22 * DAY_S + 1).startswith("certificate 2 of 2")


def test_one_alone_has_no_number(tmp_path):
    make(tmp_path / "d", 1)
    assert tell_ending(tmp_path / "d" / "n0.crt", NOW.timestamp()).startswith("the certificate in it ends in 24 hours")


def test_each_state_of_a_file_is_read_and_told_once(tmp_path, caplog):
    """T6: the end that the metric shows follows the file."""
    file, other = make(tmp_path / "d", 20), make(tmp_path / "e", 90)
    ends = CertificateEnds({"clients": file, "gone": tmp_path / "gone"})
    for _ in range(3):
        ends.look(NOW.timestamp())
    assert list(ends) == [("clients", file, (NOW + timedelta(days=20)).timestamp())]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"clients: '{file}': certificate 2 of 2 in it ends in 20 days")

    file.write_text("half of")  # it is being written: what is used is still the old one
    ends.look(NOW.timestamp())
    assert list(ends) == [("clients", file, (NOW + timedelta(days=20)).timestamp())]
    other.replace(file)
    ends.look(NOW.timestamp())
    assert list(ends) == [("clients", file, (NOW + timedelta(days=90)).timestamp())]
    assert len(caplog.messages) == 1


def test_what_comes_near_while_it_serves_is_told_once_a_day(tmp_path, caplog):
    ends = CertificateEnds({"server": make(tmp_path / "d", 25), "same": tmp_path / "d" / "ca.pem"})
    for hours in range(0, 6 * 24, 5):
        ends.look(NOW.timestamp() + hours * 3600)
    days = [message.partition(" ends in ")[2].partition(" days")[0] for message in caplog.messages]
    assert days == ["20", "19"]


def test_another_configuration_is_followed_at_once(tmp_path):
    file = make(tmp_path / "d", 20)

    async def play():
        ends = CertificateEnds({})
        task = asyncio.create_task(ends.run())
        try:
            await asyncio.sleep(0)
            ends.take({"clients": file})
            async with asyncio.timeout(30):
                while not list(ends):  # noqa: ASYNC110 - read in a thread, which announces nothing
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(play())
