"""The keys of an issuer that are fetched from it: off the request path, seldom, and for a while without it.

One fetch at a time, and none within 30 s of the one before, whoever asks for it: a flood of made-up key ids costs the
issuer two fetches a minute. A set is fetched anew every 5 minutes; while it cannot be, the last one serves for an hour.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

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
        self._flight: asyncio.Task[None] | None = None
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

    async def look_again(self) -> bool:
        """True once the keys were fetched after this was asked; False where that may not be now, or failed."""
        flight = self._flight or self._start()
        if flight is None or self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                await asyncio.shield(flight)  # one client that leaves does not end it for the others
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return not self.failed

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
        self._start()
        return MIN_GAP_S

    def close(self) -> None:
        if self._flight is not None:
            self._flight.cancel()

    def _start(self) -> asyncio.Task[None] | None:
        now = self._clock()
        if self._flight is not None or now < self._tried_at + MIN_GAP_S:
            return None
        self._tried_at = now
        self._flight = asyncio.create_task(self._fetch())
        return self._flight

    async def _fetch(self) -> None:
        try:
            keys = await self._ask()
        except ProviderError as error:
            self.counts["failed"] += 1
            if not self.failed:
                _log.error("the keys of %s cannot be fetched, those before go on for an hour: %s", self.issuer, error)
            self.failed = True
        else:
            self._take(keys)
        finally:
            self._flight = None

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
