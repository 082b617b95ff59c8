"""How an issuer describes itself (OpenID Connect Discovery 1.0), asked seldom, whoever begins to log in.

It is asked anew every 5 minutes; while it cannot be, what it said last serves for an hour, as its keys do.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from proxy.login.flights import Flights
from proxy.login.provider import ProviderClient, ProviderError, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_AGE_S: Final = 300.0
MAX_SILENCE_S: Final = 3600.0
#: After a failure nobody waits for another one: whoever shows up at the login page costs the provider no more.
PAUSE_S: Final = 2.0


class Description:
    def __init__(self, issuer: str, ca_file: str, clock: Callable[[], float] = monotonic) -> None:
        self._issuer, self._ca_file, self._clock = issuer, ca_file, clock
        self._told: Mapping[str, Any] = {}
        self._asked_at = -math.inf
        self._failure = ProviderError("it was not asked yet")
        self._paused_until = -math.inf
        self._flights: Flights[None] = Flights(1)

    async def read(self) -> Mapping[str, Any]:
        """Its metadata. Raises ProviderError."""
        now = self._clock()
        if now < self._asked_at + MAX_AGE_S:
            return self._told
        if now >= self._paused_until:
            await self._flights.join(self._issuer, self._ask)
        if self._clock() < self._asked_at + MAX_SILENCE_S:
            return self._told
        failure = self._failure
        raise ProviderError(str(failure), failure.status, is_late=failure.is_late)

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def _ask(self) -> None:
        try:
            async with ProviderClient(self._ca_file) as client:
                told = await discover(client, self._issuer)
        except ProviderError as failure:
            self._failure, self._paused_until = failure, self._clock() + PAUSE_S
        else:
            self._told, self._asked_at = told, self._clock()
