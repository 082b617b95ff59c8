"""The Authorization field that shows a secret: the one place where it turns into text again."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.tokens.secret import Secret


def bearer(secret: Secret) -> str:
    """RFC 6750 2.1."""
    return f"Bearer {secret.reveal()}"


def basic(username: str, password: Secret) -> str:
    """RFC 7617 2."""
    return f"Basic {base64.b64encode(f'{username}:{password.reveal()}'.encode()).decode()}"
