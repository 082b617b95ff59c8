"""The keys of an issuer that are fetched from it: off the request path, seldom, and for a while without it.

One fetch at a time, and none within 30 s of the one before, whoever asks for it: a flood of made-up key ids costs the
issuer two fetches a minute. A set is fetched anew every 5 minutes; while it cannot be, the last one serves for an hour.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.login.flights import Flights, Missed
from proxy.login.keys import import_keys, marks_of
from proxy.login.provider import ProviderClient, ProviderError, discover, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.login.keys import Key

_log = logging.getLogger("promgate.jwt")

#: A key that its issuer has withdrawn is believed for no longer, while the issuer can be asked.
MAX_AGE_S: Final = 300.0
#: Between two fetches.
MIN_GAP_S: Final = 30.0
#: An issuer that was silent for so long is no witness for its keys any more.
MAX_SILENCE_S: Final = 3600.0
#: How long a request waits for a fetch, and how many may.
MAX_WAIT_S: Final = 5.0
MAX_WAITING: Final = 64


class Look(Enum):
    """What became of a look for a key that is not known."""

    ANEW = "the keys were fetched after this was asked: what is not among them, the issuer did not know"
    SHARED = "they were fetched by now, but asked for before: a key that is newer may be missing"
    NOT = "they could not be fetched, or may not be now"


class FetchedKeys:
    """`url` empty: discovery finds it. `changed` is called when a key was withdrawn: what it signed is in doubt."""

    def __init__(
        self,
        issuer: str,
        url: str,
        ca_file: str,
        changed: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.issuer = issuer
        self._url, self._ca_file = url, ca_file
        self._changed, self._clock = changed, clock
        self._keys: list[Key] = []
        self._flights: Flights[None] = Flights(1)
        self._waiting = 0
        self._tried_at = -MIN_GAP_S
        self.fetched_at: float | None = None
        self.failed = False
        self.counts = {"ok": 0, "failed": 0}

    def named(self, kid: str | None) -> list[Key]:
        """The keys with this id; all of them for None."""
        return [key for key in self._keys if kid is None or key.kid == kid]

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to verify with, because the issuer did not answer (for too long)."""
        return not self._keys

    @property
    def age_s(self) -> float | None:
        """Since they were fetched; None before they were."""
        return None if self.fetched_at is None else self._clock() - self.fetched_at

    async def look_again(self) -> Look:
        """Fetch them, or wait for the fetch that is under way."""
        look = Look.SHARED if self.issuer in self._flights else Look.ANEW
        if self._waiting >= MAX_WAITING or (look is Look.ANEW and self._clock() < self._tried_at + MIN_GAP_S):
            return Look.NOT
        self._waiting += 1
        try:
            missed = await self._flights.join(self.issuer, self._fetch, MAX_WAIT_S)
        finally:
            self._waiting -= 1
        return Look.NOT if isinstance(missed, Missed) or self.failed else look

    def keep_fresh(self) -> float:
        """Fetch when it is time, forget when it is too late; the seconds until the next look."""
        now = self._clock()
        if self._keys and self.fetched_at is not None and now >= self.fetched_at + MAX_SILENCE_S:
            self._keys = []
            _log.error("the keys of %s could not be fetched for an hour: its tokens get 503", self.issuer)
            self._changed()
        due = self._tried_at + (MIN_GAP_S if self.failed or self.fetched_at is None else MAX_AGE_S)
        if now < due:
            return due - now
        self._flights.begin(self.issuer, self._fetch)
        return MIN_GAP_S

    def close(self) -> None:
        self._flights.close()

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            keys = await self._ask()
        except ProviderError as error:
            self.counts["failed"] += 1
            if not self.failed:
                _log.error("the keys of %s cannot be fetched, those before go on for an hour: %s", self.issuer, error)
            self.failed = True
        else:
            self._take(keys)

    async def _ask(self) -> list[Key]:
        async with ProviderClient(self._ca_file) as client:
            told = await client.get(self._url or endpoint_of(await discover(client, self.issuer), "jwks_uri"))
        try:
            keys = await asyncio.to_thread(import_keys, told)
        except (TypeError, KeyError):
            keys = []
        if not keys:
            raise ProviderError("its set holds no key that can be used")
        return keys

    def _take(self, keys: list[Key]) -> None:
        before, after = marks_of(self._keys), marks_of(keys)
        if self.failed or before != after:
            _log.info("the keys of %s taken: %d keys", self.issuer, len(keys))
        self.counts["ok"] += 1
        self._keys, self.failed, self.fetched_at = keys, False, self._clock()
        if before - after:
            self._changed()
