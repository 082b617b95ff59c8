"""What tells one state of a file from another: device, inode, size, times of contents and of inode; None: not there.

Looked at through symlinks, so that the swap of Kubernetes' `..data` is seen; before the file is read, so that
a change in between is seen as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Stamp = tuple[int, ...] | None


def look_at(path: Path) -> Stamp:
    """The state of the file now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
