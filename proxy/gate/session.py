"""A person's session: what is known of it, and the bounded memory of those that are alive.

The browser has an opaque id, and everybody else its SHA-256 digest. What the provider was asked with (`SessionRecord`)
is in the store alone, sealed.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from proxy.gate.providers import Provider

#: Some 600 bytes each. One that makes room for another is still in the store.
MAX_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """Who logged in, and until when that holds. Times are unix seconds.

    `login` is the name of the provider, empty for a password. `terms` are those under which they were let in: what the
    configuration says of their provider, or the hash of their password. `granted` are keys of `Snapshot.roles`.
    `subject` and `provider_session` are the provider's names for the person and for its own session. From
    `fresh_until` on its word is to be had anew.
    """

    digest: bytes
    name: str
    login: str
    terms: str
    began_at: float
    granted: tuple[str, ...] = ()
    subject: str = ""
    provider_session: str = ""
    fresh_until: float = math.inf

    def is_of(self, login: str, subject: str, provider_session: str) -> bool:
        """Whether it is that provider's, of this subject and of this session of its own; one of these may be empty."""
        return (
            self.login == login
            and bool(subject or provider_session)
            and subject in {"", self.subject}
            and provider_session in {"", self.provider_session}
        )


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is kept. `sealed` is what the provider is asked with, unreadable without the key ring."""

    session: Session
    seen_at: float
    sealed: str = field(default="", repr=False)


class SessionStore(Protocol):
    """Where sessions outlive the process. Each method may block, and may raise StoreError."""

    def load(self, most: int) -> list[SessionRecord]:
        """Those that were seen last."""

    def find(self, digest: bytes) -> SessionRecord | None: ...

    def put(self, record: SessionRecord) -> None:
        """Keep it, in the place of one of the same digest. One that has ended stays away."""

    def touch(self, seen: Mapping[bytes, float]) -> None:
        """When each was seen last; of one that has ended nothing is kept."""

    def end(self, digests: Iterable[bytes]) -> None: ...

    def claim(self, digest: bytes, owner: str, now: float, until: float) -> bool:
        """Whether `owner` may ask the provider about it: nobody else does now, nor shall before `until` or a `put`."""

    def ended(self) -> list[bytes]:
        """Those that `end` was told of, here or by another process, and that this did not tell before."""

    def find_by(self, login: str, subject: str, provider_session: str) -> list[bytes]:
        """The digests of a provider's sessions with this subject and this session of its own; empty: any."""

    def sweep(self, began_before: float, seen_before: float) -> None:
        """Let go of what began, or was seen last, before these times."""

    def close(self) -> None: ...


class SessionRules(NamedTuple):
    """How sessions are known: by the cookie of this name. `login` is the URL of the login page, or its path."""

    cookie: bytes
    login: str


class LiveSession:
    """A session in memory. `seen_at` moves with each request; `kept_at` is what the store knows of that."""

    __slots__ = ("kept_at", "seen_at", "session")

    def __init__(self, session: Session, seen_at: float) -> None:
        self.session = session
        self.seen_at = self.kept_at = seen_at


class Sessions:
    """Digest -> the session, while it is alive."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._known: dict[bytes, LiveSession] = {}
        self._most = most

    def find(self, digest: bytes) -> LiveSession | None:
        return self._known.get(digest)

    def put(self, session: Session, seen_at: float) -> None:
        """Know it from now on, in the place of what was known of it."""
        known = self._known.get(session.digest)
        if known is not None:
            known.session = session
            known.seen_at = max(known.seen_at, seen_at)
            return
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[session.digest] = LiveSession(session, seen_at)

    def forget(self, digest: bytes) -> None:
        self._known.pop(digest, None)

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(list(self._known.values()))

    def __len__(self) -> int:
        return len(self._known)


def user_terms(name: str, password_hash: bytes) -> str:
    """The terms of a session that a password began: it ends when the hash of that password is taken from the user."""
    return _mark((name, password_hash))


def provider_terms(provider: Provider) -> str:
    """The terms of a session that a provider began: who is asked, and who may log in.

    Not how it is asked (another secret logs nobody out), and not which roles there are.
    """
    return _mark((type(provider).__name__, *(_written(getattr(provider, name, "")) for name in _TERMS)))


_TERMS = (
    "name", "issuer", "base_url", "api_url", "client_id", "prefix", "email_claim", "takes_unverified_email",
    "groups_claim", "allowed_groups", "allowed_domains", "organizations", "teams",
)  # fmt: skip


def _written(value: object) -> str:
    return "\n".join(sorted(map(str, value))) if isinstance(value, frozenset) else str(value)


def _mark(parts: Iterable[str | bytes]) -> str:
    mark = hashlib.blake2b(digest_size=16)
    for part in parts:
        octets = part.encode() if isinstance(part, str) else part
        mark.update(len(octets).to_bytes(4, "big"))
        mark.update(octets)
    return mark.hexdigest()
