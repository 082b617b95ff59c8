"""The keys of an issuer that lie in a file or in the configuration, followed while the file changes.

A file that went bad leaves the last good keys in place.
"""

from __future__ import annotations

import logging
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from proxy.login.keys import read_keys
from proxy.stamp import look_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.login.keys import Key
    from proxy.stamp import Stamp

_log = logging.getLogger("promgate.jwt")

_MAX_FILE_BYTES = 1024 * 1024
#: A mounted ConfigMap is up to two minutes late. For this long a key that its file never had may still come.
_LATE_S = 300.0
_MAX_AWAITED = 64


class KeySet:
    """`text` is what the configuration found in `path`, which may be empty: then the keys never change."""

    def __init__(self, text: str, path: str, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._clock = clock
        self._mark: Stamp = None
        self._keys = read_keys(text)
        self._had = {key.kid for key in self._keys}
        self._awaited: dict[str, float] = {}

    def named(self, kid: str | None) -> list[Key]:
        """The keys with this id; all of them for None. Looks at the file first: not for the event loop."""
        self._follow()
        return [key for key in self._keys if kid is None or key.kid == kid]

    def may_come(self, kid: str) -> bool:
        """Whether the file may be late with the key of this id, which it has not: for a while, if it never had it."""
        if not self._path or kid in self._had:
            return False
        now = self._clock()
        since = self._awaited.get(kid)
        if since is None:
            if len(self._awaited) >= _MAX_AWAITED:
                del self._awaited[next(iter(self._awaited))]
            since = self._awaited[kid] = now
        return now < since + _LATE_S

    def _follow(self) -> None:
        mark = look_at(Path(self._path)) if self._path else None
        if mark is None or mark == self._mark:
            return
        try:
            with Path(self._path).open("rb") as file:
                keys = read_keys(file.read(_MAX_FILE_BYTES))
        except OSError as error:  # perhaps only for now: looked at again with the next token
            _log.error("%s cannot be read, the keys before it go on: %s", self._path, error)
            return
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            _log.error("%s is not taken, the keys before it go on: %s", self._path, error)
        else:
            if keys:
                self._keys = keys
                self._had |= {key.kid for key in keys}
                _log.info("%s taken: %d keys", self._path, len(keys))
            else:
                _log.error("%s has no key that can be used, the keys before it go on", self._path)
        self._mark = mark
