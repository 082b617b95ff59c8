"""What may count once: the memory of a login's protocol, bounded.

It is of this process. Between replicas a code is taken once by its provider.
"""

from __future__ import annotations

from proxy.tokens.secret import digest

_MAX_SEEN = 10_000


class Once:
    """Says of each text whether it is new, for `ttl_s` at least, unless more than ten thousand came since."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._seen: dict[bytes, float] = {}

    def is_first(self, text: str, now: float) -> bool:
        """Whether it was not shown before; from now on it was."""
        key = digest(text.encode())
        if self._seen.get(key, now) > now:
            return False
        self._seen.pop(key, None)
        while self._seen:  # in the order in which they came
            oldest = next(iter(self._seen))
            if self._seen[oldest] > now and len(self._seen) < _MAX_SEEN:
                break
            del self._seen[oldest]
        self._seen[key] = now + self._ttl_s
        return True
