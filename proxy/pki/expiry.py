"""When the certificates of a configuration end: of each file that it names, and of those that end soon.

The files are looked at while promgate serves, in a thread, since a mount may hang. One that cannot be read, or is
written just now, keeps the end that was read last: whoever uses it keeps what it had, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from proxy.pki.context import MAX_PEM_BYTES
from proxy.pki.validity import find_ends
from proxy.stamp import look_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from proxy.stamp import Stamp

_log = logging.getLogger("promgate.pki")

#: Three weeks: time for an order by hand, and too late for whatever renews by itself (certbot: 30 days before the end).
SOON_S: Final = 21 * 86400.0
POLL_S: Final = 5.0
_DAY_S: Final = 86400
_HOUR_S: Final = 3600


def tell_ending(file: Path, now: float, within_s: float = SOON_S) -> str:
    """What an operator should know of the certificates in `file` at the unix time `now`; nothing: all are good.

    Blocks; raises OSError. Those that end within `within_s` are told.
    """
    return _tell(_read(file), now, within_s)


def _tell(ends: list[float], now: float, within_s: float) -> str:
    soon = [end for end in ends if end < now + within_s]
    if not soon:
        return ""
    first = min(soon)
    which = "the certificate in it" if len(ends) == 1 else f"certificate {ends.index(first) + 1} of {len(ends)} in it"
    when = f"ended {_span(now - first)} ago" if first <= now else f"ends in {_span(first - now)}"
    more = f"; so it is with {len(soon) - 1} more" if len(soon) > 1 else ""
    return f"{which} {when}, at {datetime.fromtimestamp(first, UTC):%Y-%m-%dT%H:%M:%SZ}{more}: put a new one there"


def _span(seconds: float) -> str:
    for unit, length in (("days", _DAY_S), ("hours", _HOUR_S)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds // 60:.0f} minutes"


def _read(file: Path) -> list[float]:
    with file.open("rb") as opened:
        return find_ends(opened.read(MAX_PEM_BYTES).decode("ascii", "replace"))


class CertificateEnds:
    """Iterated: (option, file, when the first certificate in it ends), of all that could be read so far.

    `named` maps an option of the configuration to its file.
    """

    def __init__(self, named: Mapping[str, Path]) -> None:
        self._named = named
        self._seen: dict[Path, Stamp] = {}
        self._ends: dict[Path, list[float]] = {}
        self._told: dict[Path, float] = {}
        self._taken = asyncio.Event()

    def __iter__(self) -> Iterator[tuple[str, Path, float]]:
        return ((option, file, min(self._ends[file])) for option, file in self._named.items() if file in self._ends)

    def take(self, named: Mapping[str, Path]) -> None:
        """Follow these from now on, and no others."""
        self._named = named
        self._taken.set()

    async def run(self, poll_s: float = POLL_S) -> None:
        """Look at the files until cancelled."""
        while True:
            self._taken.clear()
            await asyncio.to_thread(self.look, time.time())
            try:
                async with asyncio.timeout(poll_s if self._named else None):
                    await self._taken.wait()
            except TimeoutError:
                pass

    def look(self, now: float) -> None:
        """One look, at the unix time `now`; blocks, raises nothing. What ends soon is logged once a day."""
        for option, file in self._named.items():
            stamp = look_at(file)
            if stamp is not None and self._seen.get(file) != stamp:
                self._seen[file] = stamp
                self._take(option, file)
            told = _tell(self._ends.get(file, []), now, SOON_S)
            if told and now >= self._told.get(file, -_DAY_S) + _DAY_S:
                self._told[file] = now
                _log.warning("%s: %a: %s", option, str(file), told)

    def _take(self, option: str, file: Path) -> None:
        try:
            ends = _read(file)
        except OSError as error:
            _log.warning("%s: when its certificates end cannot be told: %s", option, error)
            return
        if ends:
            self._ends[file] = ends
            self._told.pop(file, None)
