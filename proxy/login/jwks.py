"""The keys of an issuer: those in a JWK set, followed while its file changes (RFC 7517).

A file that went bad leaves the last good keys in place. Only public keys that can verify are taken in; what is
of no use here is passed over (section 5). joserfc is imported with the first set: it costs 9 MB.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

_log = logging.getLogger("promgate.jwt")

_MAX_KEYS = 64
_MAX_FILE_BYTES = 1024 * 1024
_MIN_RSA_BITS = 2048  # RFC 7518 3.3


class KeySet:
    """`text` is what the configuration found in `path`, which may be empty: then the keys never change."""

    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self._mark: tuple[int, int, int] | None = None
        self._keys = _import_keys(text)

    def named(self, kid: str | None) -> list[ECKey | RSAKey]:
        """The keys with this id; all of them for None. Looks at the file first: not for the event loop."""
        self._follow()
        return [key for key in self._keys if kid is None or key.kid == kid]

    def _follow(self) -> None:
        mark = _mark_of(self._path)
        if mark is None or mark == self._mark:
            return
        try:
            with Path(self._path).open("rb") as file:
                keys = _import_keys(file.read(_MAX_FILE_BYTES))
        except OSError as error:  # perhaps only for now: looked at again with the next token
            _log.error("%s cannot be read, the keys before it go on: %s", self._path, error)
            return
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            _log.error("%s is not taken, the keys before it go on: %s", self._path, error)
        else:
            if keys:
                self._keys = keys
                _log.info("%s taken: %d keys", self._path, len(keys))
            else:
                _log.error("%s has no key that can be used, the keys before it go on", self._path)
        self._mark = mark


def _mark_of(path: str) -> tuple[int, int, int] | None:
    """What changes when a file does; None while there is none."""
    try:
        stat = Path(path).stat() if path else None
    except OSError:
        return None
    return None if stat is None else (stat.st_mtime_ns, stat.st_ino, stat.st_size)


def _import_keys(text: str | bytes) -> list[ECKey | RSAKey]:
    from joserfc import errors, jwk  # noqa: PLC0415 - see the module's docstring

    kinds: dict[str, type[ECKey | RSAKey]] = {"EC": jwk.ECKey, "RSA": jwk.RSAKey}
    keys = []
    for one in json.loads(text)["keys"][:_MAX_KEYS]:
        try:
            kind = kinds.get(one.get("kty"))
            if kind is None or "d" in one:
                continue
            if kind is jwk.RSAKey and len(one["n"]) * 6 < _MIN_RSA_BITS:
                continue
            keys.append(kind.import_key(one))
        except (errors.JoseError, ValueError, TypeError, KeyError, AttributeError):
            continue
    return keys
