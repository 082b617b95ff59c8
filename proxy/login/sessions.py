"""People's sessions: begun, found again, looked after and ended. The gate judges them; here is what takes time.

Memory knows those that are alive, the store has all of them. One that has ended is out of memory before anything else
happens, so that no request passes by it any more; a store that cannot be written is tried again. No session is lost to
a provider or a store that is down, and none comes back that has ended here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.gate.ask import ABSENT, BUSY, FOUND, REFUSED, UNREACHABLE, UNREADABLE
from proxy.gate.people import People
from proxy.gate.session import MAX_KNOWN, Session, SessionRecord
from proxy.login.flights import Flights, Missed
from proxy.login.people import Person, Refused
from proxy.login.provider import ProviderError
from proxy.login.store_thread import StoreThread
from proxy.tokens.ports import StoreError
from proxy.tokens.secret import digest as digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from proxy.gate.decision import Identity
    from proxy.gate.memory import Memory
    from proxy.gate.session import SessionStore
    from proxy.gate.snapshot import Snapshot
    from proxy.login.people import LoggedOut, PeopleProvider
    from proxy.login.seal import Seal

_log = logging.getLogger("promgate.sessions")

#: How often last sights are written, and how old one must be to be worth it.
LOOK_S: Final = 10.0
#: How often the store is asked who was logged out elsewhere, by another server on the same file.
FOLLOW_S: Final = 1.0
_COARSE_S: Final = 60.0
_SWEEP_EACH_S: Final = 600.0
#: A disk or a provider that takes longer has failed, for whoever waits.
_MAX_WAIT_S: Final = 10.0
_MAX_FLIGHTS: Final = 256
#: A provider that was asked has answered by then, or nobody waits for it any more (`flow.DEADLINE_S`).
_CLAIM_S: Final = 12.0
_CLAIM_LOOK_S: Final = 0.1
#: At the end: a refresh token that was taken back, and no new one kept, is a logout.
_LAST_WAIT_S: Final = 5.0
#: After a failure nobody waits for another one: for this long the answer is known.
_PAUSE_S: Final = 5.0
#: As many of those that ended last as may still be on their way out of the store.
_MAX_ENDED: Final = 10_000
PASSWORD: Final = "password"  # noqa: S105 - how metrics call a login without a provider


class SessionKeeper:
    """`start`, then `run` in the background; `take` what was reloaded; `aclose`.

    `open_store` opens it, and may be asked again after a StoreError. `on_ended` is told the digests, in hex, of those
    that have ended just now.
    """

    def __init__(
        self,
        memory: Memory,
        open_store: Callable[[], SessionStore],
        seal: Seal,
        clock: Callable[[], float],
        at: Callable[[], float] = monotonic,
    ) -> None:
        self._memory, self._known = memory, memory.sessions
        self._disk, self._seal = StoreThread(open_store), seal
        self._clock, self._at = clock, at
        self._people: People | None = None
        self._snapshot: Snapshot | None = None
        self._providers: Mapping[str, PeopleProvider] = {}
        self._flights: Flights[str] = Flights(_MAX_FLIGHTS)
        self._owner = secrets.token_hex(8)
        self._paused: dict[str, float] = {}
        #: Ended here. Those with True are not out of the store yet.
        self._ended: dict[bytes, bool] = {}
        #: Renewed, and not in the store yet.
        self._unwritten: dict[bytes, SessionRecord] = {}
        self._swept_at = at()
        #: Of logins, by the name of the provider and what came of them: ok, refused or failed.
        self.counts: Counter[tuple[str, str]] = Counter()
        self.on_ended: Callable[[frozenset[str]], None] = lambda _: None

    def take(self, snapshot: Snapshot, providers: Mapping[str, PeopleProvider]) -> None:
        """Go by this configuration. What it does not bear any more ends, with all that is open of it."""
        self._snapshot, self._providers = snapshot, providers
        self._people = People(snapshot, self._memory)
        self._drop_dead()

    async def start(self) -> None:
        """Know those again that were seen last. A store that cannot be opened is logged, and tried again."""
        try:
            records = await self._disk.ask(lambda store: store.load(MAX_KNOWN))
        except StoreError:
            return
        for record in reversed(records):  # the first to make room for others is the one that was seen first
            self._known.put(record.session, record.seen_at)
        self._drop_dead()

    async def run(self) -> None:
        looked_at = self._at()
        while True:
            await asyncio.sleep(FOLLOW_S if self.trouble is None else LOOK_S)
            await self.follow()
            if self._at() >= looked_at + LOOK_S:
                looked_at = self._at()
                self._drop_dead()
                await self._write_soon()

    async def follow(self) -> None:
        """Let go of those that another server on the same store has ended."""
        if not len(self._known):
            return
        with contextlib.suppress(StoreError):
            ended = await self._disk.ask(lambda store: store.ended())
            self._forget([digest for digest in ended if self._known.find(digest)], is_written=True)

    async def flush(self) -> None:
        """Write what waits to be written. Raises StoreError."""
        ended = [digest for digest, waits in self._ended.items() if waits]
        renewed = list(self._unwritten.values())
        seen = {one.session.digest: one for one in self._known if one.seen_at >= one.kept_at + _COARSE_S}
        times = {digest: one.seen_at for digest, one in seen.items()}
        sweeps = self._at() >= self._swept_at + _SWEEP_EACH_S
        if not (ended or renewed or times or sweeps):
            return

        def write(store: SessionStore) -> None:
            for record in renewed:
                store.put(record)
            if times:
                store.touch(times)
            if ended:
                store.end(ended)
            if sweeps and self._snapshot is not None:
                now, limits = self._clock(), self._snapshot.session_times
                store.sweep(now - limits.absolute_s, now - limits.idle_s - _COARSE_S)

        await self._disk.ask(write)
        for record in renewed:
            if self._unwritten.get(record.session.digest) is record:
                del self._unwritten[record.session.digest]
        self._ended.update(dict.fromkeys(ended, False))
        for digest, at in times.items():
            seen[digest].kept_at = at
        if sweeps:
            self._swept_at = self._at()

    async def aclose(self) -> None:
        """A last write. A disk that hangs is not waited for, a provider that is to renew somebody for a while."""
        await self._flights.aclose(_LAST_WAIT_S)
        for one in self._known:
            one.kept_at = min(one.kept_at, one.seen_at - _COARSE_S)
        with contextlib.suppress(StoreError):
            await self.flush()
        self._disk.close()

    # logging in and out

    async def begin(self, person: Person, before: str = "") -> str:
        """The id for the browser of somebody whom a provider let in. StoreError, SealError: they are not logged in.

        `before` is the digest, in hex, of the session that the browser showed: it ends, and its id with it.
        """
        terms = "" if self._people is None else self._people.terms_of(person.provider)
        return await self._begin(_session_of(person, terms, self._clock()), self._sealed(person), before)

    async def begin_with_password(self, identity: Identity, before: str = "") -> str:
        """As `begin`, for the user whose password was right in a form (`Gate.check_password`)."""
        session = Session(b"", identity.name, "", identity.terms, self._clock(), (identity.name,))
        return await self._begin(session, "", before)

    async def _begin(self, session: Session, sealed: str, before: str) -> str:
        secret = secrets.token_urlsafe(32)
        session = replace(session, digest=digest_of(secret.encode()))
        record = SessionRecord(session, self._clock(), sealed)
        await self._disk.ask(lambda store: store.put(record))
        self._known.put(session, record.seen_at)
        if before:
            await self.end(before)
        return secret

    async def end(self, digest: str) -> Person | None:
        """End the session of this digest, in hex; whom the provider knows it as, where it is to be told."""
        key = bytes.fromhex(digest)
        self._forget([key])
        person = None
        with contextlib.suppress(StoreError):
            record = await self._disk.ask(lambda store: store.find(key))
            person = None if record is None or not record.session.login else self._person_of(record)
        await self._write_soon()
        return person

    async def end_by(self, login: str, out: LoggedOut) -> int:
        """End what a provider says has ended; how many. StoreError: there may be more of them."""
        subject, session = out.subject, out.provider_session
        known = [one.session.digest for one in self._known if one.session.is_of(login, subject, session)]
        await self._end(known)
        kept = await self._disk.ask(lambda store: store.find_by(login, subject, session))
        await self._end(kept)
        return len({*known, *kept})

    async def _end(self, digests: Iterable[bytes]) -> None:
        self._forget(list(digests))
        await self._write_soon()

    def _forget(self, digests: list[bytes], *, is_written: bool = False) -> None:
        """Nothing passes by them from here on, and nothing of theirs stays open."""
        for digest in digests:
            self._known.forget(digest)
            self._unwritten.pop(digest, None)
            self._ended[digest] = not is_written
        for digest in list(self._ended)[: max(0, len(self._ended) - _MAX_ENDED)]:
            del self._ended[digest]
        if digests:
            self.on_ended(frozenset(digest.hex() for digest in digests))

    async def _write_soon(self) -> None:
        """Now, if the store takes it; it is logged if not, and tried again."""
        with contextlib.suppress(StoreError):
            await self.flush()

    def _drop_dead(self) -> None:
        """What has ended by itself needs no memory, and nothing of it stays open."""
        if self._people is None:
            return
        now = self._clock()
        dead = [one.session.digest for one in self._known if not self._people.is_alive(one, now)]
        for digest in dead:
            self._known.forget(digest)
        if dead:
            self.on_ended(frozenset(digest.hex() for digest in dead))

    # the gate's questions

    async def find(self, digest: bytes) -> str:
        """FOUND, ABSENT, UNREADABLE or BUSY."""
        answer = await self._flights.join(("find", digest), lambda: self._find(digest), _MAX_WAIT_S)
        return _told(answer, UNREADABLE)

    async def refresh(self, digest: bytes) -> str:
        """FOUND, REFUSED, UNREACHABLE or BUSY."""
        answer = await self._flights.join(("refresh", digest), lambda: self._refresh(digest), _MAX_WAIT_S)
        return _told(answer, UNREACHABLE)

    async def _find(self, digest: bytes) -> str:
        try:
            record = await self._disk.ask(lambda store: store.find(digest))
        except StoreError:
            return UNREADABLE
        if record is None or digest in self._ended:
            return ABSENT
        self._known.put(record.session, record.seen_at)
        return FOUND

    async def _refresh(self, digest: bytes) -> str:
        live = self._known.find(digest)
        if live is None:
            return REFUSED
        session = live.session
        if self._clock() < session.fresh_until:
            return FOUND
        if self._at() < self._paused.get(session.login, 0.0):
            return UNREACHABLE
        try:
            record = self._unwritten.get(digest) or await self._claimed(digest)
        except StoreError:
            return UNREACHABLE
        if record is not None and self._clock() < record.session.fresh_until:
            self._known.put(record.session, live.seen_at)  # another server has asked meanwhile
            return FOUND
        provider = self._providers.get(session.login)
        person = None if record is None else self._person_of(record)
        if provider is None or person is None:
            await self._end([digest])
            return REFUSED
        try:
            fresh = await provider.refresh(person, self._clock())
        except ProviderError as error:
            if session.login not in self._paused:
                _log.error("%s does not say whether people may stay, so they do for now: %s", provider.name, error)
            self._paused[session.login] = self._at() + _PAUSE_S
            return UNREACHABLE
        if self._paused.pop(session.login, None) is not None:
            _log.info("%s says again whether people may stay", provider.name)
        return await self._renew(live.session, fresh, live.seen_at)

    async def _claimed(self, digest: bytes) -> SessionRecord | None:
        """As it is kept, once no other server asks about it: a second use of its token would look like a theft."""

        def claim(store: SessionStore) -> tuple[bool, SessionRecord | None]:
            now = self._clock()
            return store.claim(digest, self._owner, now, now + _CLAIM_S), store.find(digest)

        while True:
            is_ours, record = await self._disk.ask(claim)
            if is_ours or record is None or self._clock() < record.session.fresh_until:
                return record
            await asyncio.sleep(_CLAIM_LOOK_S)

    async def _renew(self, session: Session, fresh: Person | Refused, seen_at: float) -> str:
        if session.digest in self._ended:
            return REFUSED
        if isinstance(fresh, Refused) or fresh.subject != session.subject:
            why = fresh.reason if isinstance(fresh, Refused) else "it is somebody else by now"
            _log.info("%s is logged out: %s: %s", ascii(session.name), session.login, ascii(why))
            await self._end([session.digest])
            return REFUSED
        renewed = replace(
            _session_of(fresh, session.terms, session.began_at),
            digest=session.digest,
            provider_session=fresh.provider_session or session.provider_session,
        )
        self._known.put(renewed, seen_at)
        # The provider may have taken the old refresh token back by now: this one must not get lost.
        self._unwritten[session.digest] = SessionRecord(renewed, seen_at, self._sealed(fresh))
        await self._write_soon()
        return FOUND

    @property
    def trouble(self) -> StoreError | None:
        """Why the store cannot be used just now."""
        return self._disk.trouble

    @property
    def alive(self) -> int:
        """How many memory holds."""
        return len(self._known)

    def count(self, login: str, result: str) -> None:
        """A login has ended: `ok`, `refused` or `failed`."""
        self.counts[login or PASSWORD, result] += 1

    # inside

    def _sealed(self, person: Person) -> str:
        secrets_of = {"refresh_token": person.refresh_token, "id_token": person.id_token}
        return self._seal.seal(secrets_of, self._clock())

    def _person_of(self, record: SessionRecord) -> Person | None:
        """None: it was sealed by a key that is gone."""
        opened = self._seal.open(record.sealed, self._clock())
        s = record.session
        if not opened:
            return None
        return Person(
            s.login, s.name, s.subject, s.granted, s.provider_session, opened["refresh_token"], opened["id_token"],
            s.fresh_until,
        )  # fmt: skip


def _told(answer: str | Missed, unknown: str) -> str:
    """What the gate hears of a flight; `unknown` where nothing came of it."""
    if isinstance(answer, Missed):
        return BUSY if answer is Missed.FULL else unknown
    return answer


def _session_of(person: Person, terms: str, began_at: float) -> Session:
    return Session(
        b"", person.name, person.provider, terms, began_at, person.granted, person.subject, person.provider_session,
        person.fresh_until,
    )  # fmt: skip
