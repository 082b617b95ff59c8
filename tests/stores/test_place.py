from __future__ import annotations

import os
import stat

import pytest

from proxy.stores import place
from proxy.stores.place import NetworkFileSystem
from proxy.tokens.ports import StoreError

MOUNTS = r"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 21 0:25 / /srv rw,relatime shared:9 - nfs4 server:/srv rw
31 30 254:1 / /srv/local rw,relatime - xfs /dev/vdb rw
32 21 0:30 / /srvlike rw - tmpfs tmpfs rw
33 21 0:31 / /mnt/two\040words rw - cifs //host/share rw
34 21 0:32 / /twice rw - ext4 /dev/vdc rw
35 21 0:33 / /twice rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/promgate", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/promgate", "nfs4"),
        ("/srv/local/promgate", "xfs"),
        ("/srvlike", "tmpfs"),
        ("/srvlikely", "ext4"),
        ("/mnt/two words/x", "cifs"),
        ("/twice", "fuse.sshfs"),
    ],
)
def test_the_mount_that_a_path_is_on(path, kind):
    assert place.file_system_of(path, MOUNTS) == kind


def test_nothing_is_known_without_mounts(tmp_path):
    assert place.file_system_of("/srv", "") is None
    place.check_file_system(tmp_path, "")


def test_a_network_file_system_is_refused_by_name(tmp_path):
    mounts = f"1 1 0:1 / / rw - ext4 x rw\n2 1 0:2 / {tmp_path} rw - nfs4 host:/x rw\n"
    with pytest.raises(NetworkFileSystem, match=r"is on nfs4, .*tokens\.store"):
        place.check_file_system(tmp_path / "state", mounts)


def test_a_link_to_a_network_file_system_is_seen_through(tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "net")
    mounts = f"1 1 0:1 / / rw - ext4 x rw\n2 1 0:2 / {tmp_path}/net rw - cifs //x rw\n"
    with pytest.raises(NetworkFileSystem):
        place.check_file_system(tmp_path / "state", mounts)


def test_this_machines_own_mounts_are_understood(tmp_path):
    place.check_file_system(tmp_path)


def test_directories_are_made_for_us_alone(tmp_path):
    umask = os.umask(0)
    try:
        place.make_directory(tmp_path / "a" / "b")
    finally:
        os.umask(umask)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/state: cannot be made: Not a directory"):
        place.make_directory(tmp_path / "file" / "state")


@pytest.mark.parametrize(
    ("mode", "taken"), [(0o600, True), (0o660, True), (0o640, True), (0o604, False), (0o602, False)]
)
def test_the_mode_of_a_store(tmp_path, mode, taken):
    file = tmp_path / "x.db"
    file.touch()
    file.chmod(mode)
    if taken:
        place.check_modes(file)
    else:
        with pytest.raises(StoreError, match=f"mode is {mode:04o}.*chmod o-rwx {file}"):
            place.check_modes(file)


@pytest.mark.parametrize(
    ("owner", "group", "mode", "user", "advice"),
    [
        (1000, 1000, 0o700, 1000, ""),
        (1000, 1000, 0o755, 1000, ""),
        (1000, 1000, 0o775, 1000, ""),  # umask 002, and a group of one's own
        (1000, 50, 0o775, 1000, "chmod g-w"),
        (1000, 1000, 0o777, 1000, "chmod o-w"),
        (0, 0, 0o1777, 1000, "chmod o-w"),  # /tmp
        (0, 2000, 0o2775, 1000, ""),  # fsGroup
        (0, 50, 0o2775, 1000, "chmod g-w"),
        (0, 0, 0o755, 1000, ""),
        (1001, 1001, 0o755, 1000, "chown 1000"),
        (1001, 2000, 0o2770, 1000, ""),
        (1000, 50, 0o770, 0, ""),  # root, on the store of a server
        (1000, 1000, 0o777, 0, "chmod o-w"),
    ],
)
def test_whoever_may_put_files_beside_the_store_must_be_one_of_us(
    monkeypatch, tmp_path, owner, group, mode, user, advice
):
    told = os.stat_result((stat.S_IFDIR | mode, 1, 1, 1, owner, group, 0, 0, 0, 0))
    monkeypatch.setattr(type(tmp_path), "stat", lambda *_, **__: told)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getegid", lambda: user)
    monkeypatch.setattr(os, "getgroups", lambda: [user, 2000])
    if not advice:
        place.check_directory(tmp_path)
    else:
        with pytest.raises(StoreError, match=f"{tmp_path}: .*`{advice} {tmp_path}`"):
            place.check_directory(tmp_path)


def test_a_directory_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="is not a file"):
        place.check_modes(tmp_path)


@pytest.mark.parametrize(
    ("owner", "group", "mode", "user", "directory_owner", "is_taken"),
    [
        (1000, 1000, 0o600, 1000, 1000, True),
        (0, 0, 0o640, 1000, 1000, True),
        (1001, 1001, 0o600, 1000, 1000, False),
        (1001, 2000, 0o660, 1000, 1000, True),  # fsGroup
        (1001, 2000, 0o640, 1000, 1000, False),
        (1001, 3000, 0o660, 1000, 1000, False),
        (1000, 1000, 0o600, 0, 1000, True),  # root, on the store of a server
        (1001, 1001, 0o600, 0, 1000, False),
    ],
)
def test_a_store_of_another_user_is_refused(
    monkeypatch, tmp_path, owner, group, mode, user, directory_owner, is_taken
):
    file = tmp_path / "store.db"
    owners = {file: (owner, group, stat.S_IFREG | mode), tmp_path: (directory_owner, 0, stat.S_IFDIR | 0o700)}

    def told(path, **_):
        uid, gid, kind = owners[path]
        return os.stat_result((kind, 1, 1, 1, uid, gid, 0, 0, 0, 0))

    monkeypatch.setattr(type(file), "stat", told)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "getegid", lambda: user)
    monkeypatch.setattr(os, "getgroups", lambda: [user, 2000])
    if is_taken:
        place.check_modes(file)
    else:
        with pytest.raises(StoreError, match=f"belongs to user {owner}.*chown {user}"):
            place.check_modes(file)
