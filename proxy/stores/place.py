"""Where a store may stand: a directory and a file that others cannot read, on a disk of this machine.

What we make is 0700 and 0600. What we find is refused if everybody may read the file, or write it or beside it; rights
of a group that we are in are taken, for a Kubernetes volume with fsGroup needs them.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from proxy.tokens.ports import StoreError

_EVERYBODY = 0o007

#: Write-ahead logging needs memory shared by all processes that have the file open, which a file system reached over
#: a network does not give; its locks are not to be trusted either (https://www.sqlite.org/wal.html, "Overview";
#: https://www.sqlite.org/howtocorrupt.html 2.1). 9p is how virtual machines and WSL reach the host's disk.
_NETWORK = frozenset(
    """9p afs beegfs ceph cifs coda glusterfs gpfs lustre ncpfs nfs nfs4 smb2 smb3 smbfs
    fuse.ceph-fuse fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs""".split()
)


class NetworkFileSystem(StoreError):
    """The store would stand on a file system that cannot keep it whole."""


def make_directory(directory: Path) -> None:
    """The state directory, and its parents, for us alone."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be made: {error.strerror}; make it, or change tokens.store") from error


def check_directory(directory: Path) -> None:
    """Refuse a directory where others may put files: SQLite takes a log that lies beside the store for its own.

    A sticky bit keeps them from taking ours away and not from that, so /tmp is no place either. sshd (StrictModes) and
    PostgreSQL (its data directory) make no exception for it.
    """
    status = directory.stat()
    if status.st_mode & stat.S_IWOTH:
        raise StoreError(
            f"{directory}: mode is {status.st_mode & 0o7777:04o}, every user of this machine may put files beside the "
            f"store: `chmod o-w {directory}`, or set tokens.store to a file in a directory below it, which is made"
        )
    if not _is_ours(status, status.st_uid):
        raise StoreError(
            f"{directory}: belongs to user {status.st_uid}, who may put files beside the store, and promgate runs as "
            f"{os.geteuid()}: `chown {os.geteuid()} {directory}`"
        )
    if status.st_mode & stat.S_IWGRP and os.geteuid() != 0 and status.st_gid not in {os.getegid(), *os.getgroups()}:
        raise StoreError(
            f"{directory}: mode is {status.st_mode & 0o7777:04o}, group {status.st_gid}, in which promgate is not, may "
            f"put files beside the store: `chmod g-w {directory}`"
        )


def check_modes(file: Path) -> None:
    """Refuse a store that others may change: the digests are safe to lose, the right to add one is not."""
    check_directory(file.parent)
    status = file.stat()
    mode = status.st_mode
    if not stat.S_ISREG(mode):
        raise StoreError(f"{file}: is not a file: set tokens.store to the path of one")
    if mode & _EVERYBODY:
        raise StoreError(
            f"{file}: mode is {mode & 0o777:04o}, open to every user of this machine: `chmod o-rwx {file}`"
        )
    if not _is_ours(status, file.parent.stat().st_uid):
        raise StoreError(
            f"{file}: belongs to user {status.st_uid}, who may change it, and promgate runs as {os.geteuid()}: "
            f"`chown {os.geteuid()} {file}` if what is in it is to be believed"
        )


def _is_ours(file: os.stat_result, directory_owner: int) -> bool:
    """Ours, root's, or by its group ours (fsGroup: nobody can give a file to a group that he is not in).

    Root takes the file of whoever the directory is for: it works on the store of a server that runs as another user.
    """
    user = os.geteuid()
    if file.st_uid in {user, 0} or (user == 0 and file.st_uid == directory_owner):
        return True
    return bool(file.st_mode & stat.S_IWGRP) and file.st_gid in {os.getegid(), *os.getgroups()}


def check_file_system(directory: Path, mounts: str | None = None) -> None:
    """Refuse a file system of the network. `mounts`: the text of /proc/self/mountinfo; without it, all pass."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
    kind = file_system_of(str(directory.resolve()), mounts)
    if kind in _NETWORK:
        raise NetworkFileSystem(
            f"{directory}: is on {kind}, a network file system, where SQLite's write-ahead log is not safe: set "
            "tokens.store to a path on a local disk or a block volume"
        )


def file_system_of(path: str, mounts: str) -> str | None:
    """The type of the mount that `path` (absolute, real) is on; the later of two on one place counts (proc(5))."""
    best, kind = "", None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind


def make_file(path: Path) -> None:
    """An empty file for us alone, if there is none: to SQLite a database whose tables come in one transaction."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        give_to_owner_of(path.parent, path)


def give_to_owner_of(directory: Path, file: Path) -> None:
    """Root makes a store for the user whose directory it stands in, or the server could not open it afterwards."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(file, owner.st_uid, owner.st_gid)


def sync_directory(directory: Path) -> None:
    """Make a new name in `directory` outlast a power cut."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
