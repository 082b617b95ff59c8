"""What every login by OAuth 2 has, whichever provider it is (RFC 6749, RFC 7636, RFC 9700): how it begins, and what
must come back before a provider is asked anything.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from proxy.login.flights import Flights, Missed
from proxy.login.people import Refused
from proxy.login.provider import ProviderError
from proxy.login.token_endpoint import error_text
from proxy.tokens.secret import digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

    from proxy.login.once import Once
    from proxy.login.people import Person

#: For so long a login may be under way.
LOGIN_TTL_S: Final = 600.0
#: A person waits for a page. Each question has a deadline of its own; this is for all of a login.
DEADLINE_S: Final = 9.0
#: A refresh that is asked for again within this was answered already.
_KEEP_S: Final = 30.0
#: As many as there are sessions, in case all are due at once.
_MAX_REFRESHES: Final = 10_000
#: 256 bits each, of state, nonce and verifier: 43 characters (RFC 7636 4.1 wants as many).
_RANDOM_BYTES: Final = 32


def make_memory(name: str) -> dict[str, str]:
    """What a login with the provider of this name must bring back."""
    words = ("state", "nonce", "verifier")
    return {"provider": name, **{word: secrets.token_urlsafe(_RANDOM_BYTES) for word in words}}


def challenge_of(verifier: str) -> str:
    """RFC 7636 4.2, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def with_query(url: str, query: Mapping[str, str]) -> str:
    """`url`, which may have a query of its own (RFC 6749 3.1), with more."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def check_state(
    name: str, query: Mapping[str, str], memory: Mapping[str, str], states: Once, now: float
) -> Refused | None:
    """Whether this browser began this login, and did not end it before (RFC 9700 4.7). None: it is so."""
    state, begun = query.get("state", ""), memory.get("state", "")
    is_whole = all(memory.get(key) for key in ("provider", "state", "nonce", "verifier"))
    if not is_whole or not hmac.compare_digest(state.encode(errors="replace"), begun.encode()):
        return Refused("this login was not begun by this browser within the last ten minutes: log in again")
    if memory["provider"] != name:
        return Refused("this login was begun with another provider: log in again")
    if not states.is_first(state, now):
        return Refused("this login came to its end already: log in again")
    return None


def check_code(query: Mapping[str, str]) -> Refused | None:
    """Whether the provider sent a code, and no error (RFC 6749 4.1.2.1)."""
    if "error" in query:
        text = query.get("error_description", "")
        said = f" ({text[:200]})" if text and text.isprintable() else ""
        return Refused(f"the provider said {error_text(query['error'])}{said}: log in again, or ask whoever runs it")
    if not query.get("code"):
        return Refused("the provider sent no code: log in again")
    return None


@contextlib.asynccontextmanager
async def deadline(name: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield
    except TimeoutError:
        raise ProviderError(f"{name}: no whole answer within {DEADLINE_S:g} s", is_late=True) from None


class Refreshes:
    """One refresh for each token, however many sessions ask with it: a provider may take the second for a theft.

    No answer is kept for longer than it holds, `refresh_s`.
    """

    def __init__(self, name: str, refresh_s: float) -> None:
        self._name = name
        self._flights: Flights[Person | Refused] = Flights(_MAX_REFRESHES, min(_KEEP_S, refresh_s))

    async def join(self, token: str, ask: Callable[[], Coroutine[None, None, Person | Refused]]) -> Person | Refused:
        """What `ask` answers, or answered a moment ago. Raises ProviderError."""
        answer = await self._flights.join(digest(token.encode()), ask)
        if isinstance(answer, Missed):
            raise ProviderError(f"{self._name}: a refresh got no answer: {answer.value}")
        return answer

    async def aclose(self, grace_s: float) -> None:
        """What is under way has so long: the provider may have taken the token back, and its answer has the next."""
        await self._flights.aclose(grace_s)
