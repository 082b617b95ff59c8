"""Users with passwords, as an htpasswd file has them. Each password is its user's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from pathlib import Path


def htpasswd(*users: str) -> str:
    """The lines that `htpasswd -B` makes."""
    hashes = {user: bcrypt.hashpw(user.encode(), bcrypt.gensalt(4)).decode() for user in users}
    return "".join(f"{user}:$2y${hashed[4:]}\n" for user, hashed in hashes.items())


def write_private(path: Path, text: str) -> None:
    """0600, as promgate wants a file of secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
