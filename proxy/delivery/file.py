"""A token in a file that its sender reads at every request: the old one or the new one, whole, at every moment.

The new content is written beside the file, synced, and moved into its place by rename(2), then the directory is
synced: a reader, a crash or a power cut finds the old token or the new one. Prometheus drops a batch for an empty
file.

- A file that is replaced keeps its mode, its owner and its access list; what cannot be kept is refused. A new file is
  0600, and of its directory's owner where we are root.
- A symbolic link is followed, and the file it points to is replaced, if the link is root's, ours, or of the owner of
  the directory it lies in. Another's link might lead anywhere.
- A directory that everybody may write is refused, the sticky bit or not; so is one that lies in such a directory
  without sticky bit, where everybody could put another in its place.

Nothing but the standard library is imported: `promgate token renew` runs on the senders' machines, too.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.tokens.ports import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.tokens.ports import Parcel
    from proxy.tokens.targets import FileTarget

_MAX_LINKS = 8
_MODE = 0o600
#: The one extended attribute that decides who may read (acl(5)).
_ACL = "system.posix_acl_access"
#: NFS may have no locks; then leftovers stay.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
#: Others hold a lock for the moment in which they remove leftovers.
_PATIENCE_S = 2.0
_LOOK_AGAIN_S = 0.01
_NO_XATTR = {errno.ENODATA, errno.ENOTSUP, errno.ENOSYS}
_FOREIGN_LINK = "is a symbolic link of uid {uid}, who is neither root, nor us, nor the owner of its directory"


class FileSink:
    """Replaces the file at an absolute path."""

    def __init__(self, where: FileTarget) -> None:
        self.target = where.target
        self._path = Path(where.path)

    def deliver(self, parcel: Parcel) -> None:
        try:
            replace_file(self._path, parcel.secret.reveal().encode() + b"\n")
        except OSError as error:
            raise DeliveryError(f"{self.target}: {advice_on(error)}") from error


class Locked(OSError):
    """Somebody else holds a lock on the directory, and does not let go of it."""


class UnsafePlace(OSError):
    """Where the file stands, somebody else could have a hand in it."""

    def __init__(self, path: Path | str, text: str) -> None:
        super().__init__(errno.EPERM, text, str(path))


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` into the file at the absolute `path`, as the module's docstring says. OSError: `advice_on` tells
    of it.

    Up to the rename nothing has changed; an error after it (the sync of the directory) leaves the new content there.
    """
    path = _follow(path)
    _check_way(path.parent)
    with _opened(path.parent) as place:
        old = _look_at(path, place)
        _tidy(path, place)
        fresh = f"{_prefix(path.name)}{secrets.token_hex(8)}"
        try:
            _write(fresh, content, path, old, place)
            os.rename(fresh, path.name, src_dir_fd=place, dst_dir_fd=place)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=place)
            raise
        os.fsync(place)


def _follow(path: Path) -> Path:
    """Where the links at the end of `path` lead."""
    for _ in range(_MAX_LINKS):
        try:
            found = path.lstat()
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(found.st_mode):
            return path
        if found.st_uid not in {0, os.geteuid(), path.parent.stat().st_uid}:
            raise UnsafePlace(path, _FOREIGN_LINK.format(uid=found.st_uid))
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _check_way(directory: Path) -> None:
    """Refuse a way to the file on which everybody could put something else: the way as written, and as it is."""
    for way in {directory, directory.resolve()}:
        for place in (way, *way.parents):
            mode = place.stat().st_mode
            if mode & stat.S_IWOTH and (place == way or not mode & stat.S_ISVTX):
                raise UnsafePlace(place, f"is a directory that everybody may write (mode {stat.S_IMODE(mode):04o})")


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """The directory, held open: from here on it is this one, whatever its name leads to."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(place).st_mode & stat.S_IWOTH:
            raise UnsafePlace(directory, "is a directory that everybody may write")
        yield place
    finally:
        os.close(place)


def _tidy(path: Path, place: int) -> None:
    """Remove what a killed delivery left, if nobody delivers into the directory just now: what is there is theirs.

    From here on nobody else does so before `place` is closed. Others may lock a directory that they can read, for as
    long as they like.
    """
    give_up_at = time.monotonic() + _PATIENCE_S
    try:
        with suppress(BlockingIOError):
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_leftovers(path.name, place)
        while True:
            try:
                fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(_LOOK_AGAIN_S)
            else:
                return
    except BlockingIOError as error:
        raise Locked(error.errno, f"another process has locked {path.parent} for {_PATIENCE_S:.0f} s") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def _look_at(path: Path, place: int) -> os.stat_result | None:
    """The file that is to be replaced, if there is one."""
    try:
        old = os.stat(path.name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        raise UnsafePlace(path, "is there, and is no file")
    return old


def _prefix(name: str) -> str:
    """How a file under way to become `name` is called. A long name is cut: NAME_MAX is 255 bytes."""
    return f".{os.fsdecode(os.fsencode(name)[:200])}.promgate-"


def _remove_leftovers(name: str, place: int) -> None:
    """What a killed delivery left is a secret in a file that nobody looks after."""
    for found in os.listdir(place):
        if found.startswith(_prefix(name)):
            os.unlink(found, dir_fd=place)


def _write(fresh: str, content: bytes, path: Path, old: os.stat_result | None, place: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(fresh, flags, _MODE, dir_fd=place)
    try:
        _give(fd, old, place)
        if old is not None:
            os.fchmod(fd, stat.S_IMODE(old.st_mode))
            _copy_access_list(fd, path, place)
        while content:
            content = content[os.write(fd, content) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _give(fd: int, old: os.stat_result | None, place: int) -> None:
    mine = os.fstat(fd)
    if old is None:
        if os.geteuid() == 0:
            owner = os.fstat(place)
            os.fchown(fd, owner.st_uid, owner.st_gid)
    elif (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except PermissionError:
            raise UnsafePlace("", f"uid {os.geteuid()} cannot keep its owner {old.st_uid}:{old.st_gid}") from None


def _copy_access_list(fd: int, path: Path, place: int) -> None:
    try:
        granted = os.getxattr(f"/proc/self/fd/{place}/{path.name}", _ACL, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_XATTR:
            raise
    else:
        os.setxattr(fd, _ACL, granted)


def advice_on(error: OSError) -> str:
    """What happened and what to do, in one line."""
    why = error.strerror or str(error)
    if isinstance(error, UnsafePlace):
        where = f"{error.filename} " if error.filename else ""
        return f"{where}{why}: give the token a directory of its own, of the user that promgate runs as"
    if isinstance(error, Locked):
        return f"{why}: `fuser -v` tells which; let it end"
    if error.errno == errno.EBUSY:
        return f"{why}: a file that is mounted by itself cannot be replaced; mount its directory"
    if error.errno == errno.EROFS:
        return f"{why}: mount the directory writable, or deliver to another place"
    if isinstance(error, FileNotFoundError):
        return f"its directory is not there ({why}): make it, or mount it"
    return f"{why}: may uid {os.geteuid()} write its directory, and is there room?"
