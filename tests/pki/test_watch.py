import asyncio
import contextlib
import os
import ssl

import pytest

from proxy.pki.certificates import Certificates
from proxy.pki.context import PairError
from proxy.pki.watch import CertWatch
from tests.pki.test_context import client_of, shake_hands

POLL_S = 0.02


def serial_of(made, context):
    client, _ = shake_hands(context, client_of(made))
    return client.getpeercert()["serialNumber"]


def copy(made, name, directory, *, only=("crt", "key")):
    for suffix in only:
        (directory / f"new.{suffix}").write_bytes((made / f"{name}.{suffix}").read_bytes())
        (directory / f"new.{suffix}").replace(directory / f"tls.{suffix}")


@contextlib.asynccontextmanager
async def watching(directory):
    taken = asyncio.Queue()
    watch = CertWatch(directory / "tls.crt", directory / "tls.key", ssl.TLSVersion.TLSv1_2)
    certificates = Certificates([watch], poll_s=POLL_S)
    taken.put_nowait(certificates.load())
    task = asyncio.create_task(certificates.run(lambda context, _: taken.put_nowait(context)))
    try:
        yield watch, taken
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a flag for metrics, which nothing announces
            await asyncio.sleep(POLL_S)


def test_a_bad_pair_keeps_the_old_one_and_a_good_one_is_taken(made, tmp_path, caplog):
    """T6."""

    async def play():
        copy(made, "one", tmp_path)
        async with watching(tmp_path) as (watch, taken):
            first = serial_of(made, await taken.get())
            ends = watch.not_after
            copy(made, "two", tmp_path, only=["crt"])  # the key of `one` beside it
            await until(lambda: watch.failed)
            await asyncio.sleep(10 * POLL_S)  # it must not be tried, or told, again and again
            assert taken.empty()
            assert watch.not_after == ends
            copy(made, "two", tmp_path, only=["key"])
            assert serial_of(made, await asyncio.wait_for(taken.get(), 30)) != first
            assert not watch.failed
            assert watch.loaded == 2
            assert watch.not_after > ends

    asyncio.run(play())
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "tls.key: not the key of" in errors[0].getMessage()
    assert errors[0].exc_info is None


def test_files_that_vanish_and_come_back(made, tmp_path):
    async def play():
        copy(made, "one", tmp_path)
        async with watching(tmp_path) as (watch, taken):
            await taken.get()
            (tmp_path / "tls.key").unlink()
            await until(lambda: watch.failed)
            copy(made, "one", tmp_path, only=["key"])
            await asyncio.wait_for(taken.get(), 30)
            assert not watch.failed

    asyncio.run(play())


def test_the_symlink_swap_of_kubernetes(made, tmp_path):
    """A mounted secret: tls.crt -> ..data/tls.crt, ..data -> ..<time>, and only `..data` is ever replaced."""

    def mount(name):
        version = tmp_path / f"..{name}"
        version.mkdir()
        copy(made, name, version)
        (tmp_path / "..data_tmp").symlink_to(version.name)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    async def play():
        mount("one")
        for suffix in ("crt", "key"):
            (tmp_path / f"tls.{suffix}").symlink_to(f"..data/tls.{suffix}")
        async with watching(tmp_path) as (watch, taken):
            first = serial_of(made, await taken.get())
            mount("two")
            assert serial_of(made, await asyncio.wait_for(taken.get(), 30)) != first
            assert not watch.failed

    asyncio.run(play())


def test_the_same_size_and_time_is_still_another_file(made, tmp_path):
    """`cp -p` and restored backups keep the time; the inode or its own time tells."""

    async def play():
        copy(made, "one", tmp_path)
        kept = (tmp_path / "tls.crt").stat()
        async with watching(tmp_path) as (watch, taken):
            await taken.get()
            (tmp_path / "tls.crt").write_bytes((tmp_path / "tls.crt").read_bytes())
            os.utime(tmp_path / "tls.crt", ns=(kept.st_atime_ns, kept.st_mtime_ns))
            await asyncio.wait_for(taken.get(), 30)
            assert watch.loaded == 2

    asyncio.run(play())


def test_the_first_pair_must_be_good(made, tmp_path):
    copy(made, "one", tmp_path, only=["crt"])
    watch = CertWatch(tmp_path / "tls.crt", tmp_path / "tls.key", ssl.TLSVersion.TLSv1_2)
    with pytest.raises(PairError, match=r"tls\.key: the key file does not exist"):
        watch.load()
