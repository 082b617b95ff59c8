"""People, and the providers that know them: what a login by OAuth 2 comes to, whichever provider it is.

A provider is asked three times: where to send the browser (`begin`), who came back (`finish`), and now and then whether
its word still holds (`refresh`). A person who is not let in is a value, `Refused`; a provider that cannot tell raises
`proxy.login.provider.ProviderError`, and nothing is concluded from that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of whom a provider said who it is. All but the secrets is visible ASCII without a comma.

    `name` is the identity: `oidc:user:E-MAIL`, `oidc:sub:SUBJECT` where there is no verified e-mail, or
    `github:user:LOGIN`. `subject` is the provider's own id of the person, which never changes. `granted` are keys of
    `Snapshot.roles`, `name` among them: only those that somebody has a role for.
    `fresh_until` is unix time: from then on the provider's word is to be had anew, by `refresh`. It is infinite where
    the provider gave nothing by which it could be asked.
    """

    #: As the configuration calls it.
    provider: str
    name: str
    subject: str
    granted: tuple[str, ...]
    #: `sid`, by which a back-channel logout may name the session; empty where the provider tells none.
    provider_session: str = ""
    #: What the provider is asked with again: a refresh token, or GitHub's access token. Empty: nothing.
    refresh_token: str = field(default="", repr=False)
    #: For `logout_url` alone; never a proof of anything.
    id_token: str = field(default="", repr=False)
    fresh_until: float = float("inf")


class Refused(NamedTuple):
    """Not let in, or let in no longer. `reason` says what to do, for the log and, escaped, for the page: no secret."""

    reason: str


class Begun(NamedTuple):
    """A login under way: where the browser goes, and what it must bring back.

    `memory` (`provider`, `state`, `nonce`, `verifier`) is for `finish`, sealed into the browser's cookie until then.
    """

    url: str
    memory: Mapping[str, str]


class LoggedOut(NamedTuple):
    """Whose sessions end at the provider's word: those of `subject`, of `provider_session`, or (both) that one.

    One of the two may be empty, and then says nothing.
    """

    subject: str
    provider_session: str


class PeopleProvider(Protocol):
    """One provider by one configuration. Every method but `aclose` may raise ProviderError: it cannot be told.

    `redirect_uri` is `EXTERNAL_URL/-/callback/NAME`, another for each provider (RFC 9700 4.4.2), and the same in
    `begin` and `finish`. `now` is unix time.
    """

    @property
    def name(self) -> str:
        """As the configuration calls it; a word, fit for a path."""

    @property
    def title(self) -> str:
        """As people know it; any printable text, so it is escaped where it is shown."""

    async def begin(self, redirect_uri: str) -> Begun:
        """Begin a login. Nothing is kept here: what is needed again is in the answer."""

    async def finish(
        self, query: Mapping[str, str], memory: Mapping[str, str], redirect_uri: str, now: float
    ) -> Person | Refused:
        """The end of a login, by the query with which the browser came back, and `Begun.memory`; empty: no cookie.

        A state is taken once: the second time it is Refused, whatever the provider would say.
        """

    async def refresh(self, person: Person, now: float) -> Person | Refused:
        """The person as the provider knows them now; Refused: their session ends.

        Asking twice for the same person is asked of the provider once, at the same time or shortly after.
        """

    async def logout_url(self, person: Person, after: str, state: str = "") -> str | None:
        """Where the browser goes to log out there, too (OpenID Connect RP-Initiated Logout 1.0), and then to `after`.

        None where the provider has no such place.
        """

    async def read_logout_token(self, text: str, now: float) -> LoggedOut | Refused:
        """Whom the provider logs out by a token of its own (OpenID Connect Back-Channel Logout 1.0 2.6)."""

    async def aclose(self, grace_s: float = 0.0) -> None:
        """End what is open towards the provider; a refresh that is under way has `grace_s`."""
