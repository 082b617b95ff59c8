"""How promgate itself logs in to a provider, and where its secret comes from when it was replaced under us."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final
from urllib.parse import quote_plus

_MAX_SECRET_BYTES: Final = 64 * 1024


def basic_login(client_id: str, secret: str) -> str:
    """RFC 6749 2.3.1: both are form-encoded before they become basic auth."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def read_secret(file: str) -> str:
    """What the file holds now; nothing if it cannot be read."""
    if not file:
        return ""
    try:
        with Path(file).open("rb") as opened:
            return opened.read(_MAX_SECRET_BYTES).decode().rstrip("\r\n")
    except (OSError, ValueError):
        return ""
