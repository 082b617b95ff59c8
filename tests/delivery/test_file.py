"""The file sink: what it keeps, what it refuses, and what a reader and a crash find."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import stat
import struct
import threading
import time
from pathlib import Path

import pytest

from proxy.delivery.file import FileSink
from proxy.tokens.ports import DeliveryError
from proxy.tokens.targets import FileTarget
from tests.delivery.play import parcel
from tests.kit.rig import FAULTS, KILL, TORN, Rig

OLD = "the old token\n"
NEW = parcel(1).secret.reveal() + "\n"

only_root = pytest.mark.xfail(os.geteuid() != 0, reason="needs to change owners", raises=PermissionError, strict=True)


@pytest.fixture
def file(tmp_path):
    directory = tmp_path / "tokens"
    directory.mkdir(mode=0o700)
    return directory / "agent.token"


def names_in(directory):
    return sorted(found.name for found in directory.iterdir())


def deliver(file, seed=1):
    FileSink(FileTarget(str(file))).deliver(parcel(seed))


def refused(file):
    with pytest.raises(DeliveryError) as failed:
        deliver(file)
    return str(failed.value)


def test_a_new_file_is_ours_alone(file):
    before = os.umask(0)
    try:
        deliver(file)
    finally:
        os.umask(before)
    assert file.read_text() == NEW
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert names_in(file.parent) == [file.name]


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640, 0o644])
def test_a_mode_is_kept(file, mode):
    file.write_text(OLD)
    file.chmod(mode)
    deliver(file)
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (NEW, mode)


@only_root
def test_an_owner_is_kept(file):
    file.write_text(OLD)
    os.chown(file, 12345, 23456)
    deliver(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 23456)


@only_root
def test_root_makes_a_new_file_for_the_owner_of_the_directory(file):
    os.chown(file.parent, 12345, 23456)
    deliver(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 23456)


@only_root
def test_an_owner_that_cannot_be_kept_is_refused(file):
    """As another user than root: the sender could not read its own file any more."""
    file.write_text(OLD)
    os.chown(file.parent, 12345, 23456)
    file.parent.parent.chmod(0o755)
    child = os.fork()
    if child == 0:
        try:
            for directory in file.parents:
                if not directory.stat().st_mode & stat.S_IXOTH and directory != file.parent:
                    directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
            os.setgroups([])
            os.setgid(23456)
            os.setuid(12345)
            text = refused(file)
        except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
            os._exit(2)
        os._exit(0 if "uid 12345 cannot keep its owner 0:0" in text else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert file.read_text() == OLD
    assert names_in(file.parent) == [file.name]


def test_an_access_list_is_kept(file):
    """setfacl -m u:12345:r, as acl(5) lays it out."""
    entries = [(0x01, 6, 2**32 - 1), (0x02, 4, 12345), (0x04, 0, 2**32 - 1), (0x10, 4, 2**32 - 1), (0x20, 0, 2**32 - 1)]
    granted = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    file.write_text(OLD)
    try:
        os.setxattr(file, "system.posix_acl_access", granted)
    except OSError as error:
        assert error.errno == errno.ENOTSUP  # noqa: PT017 - this file system has none, and the mode is all there is
        return
    deliver(file)
    assert os.getxattr(file, "system.posix_acl_access") == granted


def test_a_link_is_followed_and_stays(file, tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "real").write_text(OLD)
    file.symlink_to(Path("..") / "elsewhere" / "real")
    deliver(file)
    assert file.is_symlink()
    assert (target / "real").read_text() == NEW


def test_a_link_to_nothing_makes_the_file(file):
    file.symlink_to("real")
    deliver(file)
    assert file.with_name("real").read_text() == NEW


@only_root
def test_a_link_of_somebody_else_is_refused(file, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text(OLD)
    file.symlink_to(victim)
    os.chown(file, 12345, 12345, follow_symlinks=False)
    assert "is a symbolic link of uid 12345, who is neither root, nor us" in refused(file)
    assert victim.read_text() == OLD


@only_root
def test_a_link_of_the_owner_of_its_directory_is_followed(file):
    file.symlink_to("real")
    os.chown(file, 12345, 12345, follow_symlinks=False)
    os.chown(file.parent, 12345, 12345)
    deliver(file)
    assert file.with_name("real").read_text() == NEW


def test_links_in_a_circle_are_refused(file):
    file.symlink_to(file.name)
    assert "symbolic links" in refused(file)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_directory_that_everybody_may_write_is_refused(file, mode):
    file.write_text(OLD)
    file.parent.chmod(mode)
    assert f"{file.parent} is a directory that everybody may write (mode {mode:04o})" in refused(file)
    assert file.read_text() == OLD
    assert names_in(file.parent) == [file.name]


def test_so_is_one_that_anybody_could_put_another_in_place_of(file):
    file.parent.parent.chmod(0o777)
    assert f"{file.parent.parent} is a directory that everybody may write" in refused(file)
    file.parent.parent.chmod(0o1777)  # as /tmp: only owners may rename
    deliver(file)


def test_a_way_around_through_a_link_is_seen(file, tmp_path):
    """The directory is reached by a link; where it really lies counts, and where the link lies."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "tokens").mkdir()
    link = tmp_path / "link"
    link.symlink_to(open_to_all / "tokens")
    open_to_all.chmod(0o777)
    assert "everybody may write" in refused(link / "agent.token")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(file, make):
    make(file)
    assert "is there, and is no file" in refused(file)


def test_a_directory_that_is_not_there(file):
    file.parent.rmdir()
    assert "its directory is not there (No such file or directory): make it, or mount it" in refused(file)


def test_a_name_as_long_as_a_name_may_be(file):
    file = file.with_name("é" * 127)
    deliver(file)
    assert file.read_text() == NEW


def test_what_a_killed_delivery_left_is_removed(file):
    other = file.with_name(".other.token.promgate-0123")
    other.write_text("of another file")
    file.with_name(".agent.token.promgate-0123456789abcdef").write_text("half a sec")
    deliver(file)
    assert names_in(file.parent) == [other.name, file.name]


def _read_in_a_loop(path, known, ready, done, bad):
    reads = 0
    while not done.is_set():
        with open(path, encoding="ascii") as opened:  # noqa: PTH123 - as a sender does it
            content = opened.read()
        if content not in known:
            bad.put(content)
        reads += 1
        if reads == 1:
            ready.set()
    bad.put(reads)


def test_a_reader_in_a_tight_loop_never_sees_less_than_a_token(file):
    """500 replacements under a process that does nothing but read."""
    parcels = [parcel(seed) for seed in range(20)]
    known = {sent.secret.reveal() + "\n" for sent in parcels}
    sink = FileSink(FileTarget(str(file)))
    sink.deliver(parcels[0])
    spawn = multiprocessing.get_context("spawn")
    ready, done, bad = spawn.Event(), spawn.Event(), spawn.Queue()
    reader = spawn.Process(target=_read_in_a_loop, args=(file, known, ready, done, bad))
    reader.start()
    assert ready.wait(60)
    for turn in range(500):
        sink.deliver(parcels[turn % len(parcels)])
    done.set()
    found = bad.get(timeout=60)
    reader.join(60)
    assert isinstance(found, int), f"read {found!r}"
    assert found > 500
    assert reader.exitcode == 0


def test_two_that_deliver_to_one_directory_do_not_take_each_other_s_file_away(file):
    names = [file.with_name(f"{name}.token") for name in ("a", "b")]
    sinks = [FileSink(FileTarget(str(name))) for name in names]
    failed = []

    def work(sink):
        try:
            for seed in range(50):
                sink.deliver(parcel(seed))
        except DeliveryError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(sink,)) for sink in sinks * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(file.parent.iterdir()) == names


@pytest.fixture
def locked(file):
    """The directory, locked by somebody who does not let go, as whoever may read it can."""
    place = os.open(file.parent, os.O_RDONLY)

    def lock(how):
        fcntl.flock(place, how)

    yield lock
    os.close(place)


def test_a_lock_of_somebody_else_is_not_waited_for_without_end(file, locked):
    file.write_text(OLD)
    locked(fcntl.LOCK_EX)
    before = time.monotonic()
    assert f"another process has locked {file.parent} for 2 s: `fuser -v` tells which" in refused(file)
    assert time.monotonic() - before < 30
    assert (file.read_text(), names_in(file.parent)) == (OLD, [file.name])
    locked(fcntl.LOCK_UN)
    deliver(file)
    assert file.read_text() == NEW


def test_what_another_delivery_is_at_work_on_is_left_alone(file, locked):
    under_way = file.with_name(".agent.token.promgate-0123")
    under_way.write_text("of another delivery")
    locked(fcntl.LOCK_SH)
    deliver(file)
    assert names_in(file.parent) == [under_way.name, file.name]
    assert file.read_text() == NEW


@pytest.fixture
def rig(rig_library, file):
    made = Rig(rig_library, file.parent, "tests.delivery.deliver_once:main")
    yield made
    made.close()


ON_DISK = FAULTS | {"EDQUOT": errno.EDQUOT}


@pytest.mark.parametrize("what", ON_DISK.values(), ids=ON_DISK)
@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
def test_a_death_or_a_fault_at_each_call_leaves_the_old_token_or_the_new(rig, file, what, there):
    at, contents = 1, set()
    while True:
        for left in file.parent.iterdir():
            left.unlink()
        if there:
            file.write_text(OLD)
            file.chmod(0o640)
        ended = rig.run([str(file), "1"], at, what)
        content = file.read_text() if file.exists() else None
        assert content in {NEW, OLD if there else None}, f"call {at}: {content!r}"
        contents.add(content)
        if not ended.struck:
            break
        if what in (KILL, TORN):
            assert ended.code == -signal.SIGKILL
        else:
            assert ended.code == 1
            assert ended.stderr.startswith(f"file:{file}: ")
            assert "Traceback" not in ended.stderr
        # And the next delivery mends all of it, leftovers too.
        assert rig.run([str(file), "1"]).code == 0
        assert (file.read_text(), names_in(file.parent)) == (NEW, [file.name])
        at += 1
    assert ended.code == 0
    assert contents == {NEW, OLD if there else None}
    assert at > 5, "the rig hardly struck"
