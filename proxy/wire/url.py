"""Which URLs a provider may be asked at: https, or plain http that does not leave this machine.

What is read from them decides who is let in, and what is sent to them may be a secret.
"""

from __future__ import annotations

import re

from proxy.wire.grammar import TARGET, is_authority

_URL = re.compile(rb"(https?)://([^/?]+)(?:[/?].*)?").fullmatch
_LOOPBACK = re.compile(rb"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?").fullmatch


def is_safe_url(url: str) -> bool:
    """True for `https://host...` and `http://127.0.0.1...` of visible ASCII, with no user and no fragment in it."""
    if not url.isascii():
        return False
    text = url.encode()
    match = _URL(text)
    if match is None or text.translate(None, TARGET) or not is_authority(match[2]):
        return False
    return match[1] == b"https" or _LOOPBACK(match[2]) is not None
