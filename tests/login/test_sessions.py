"""Sessions as they are kept: begun, found, renewed, ended; a provider or a store that is down; and none comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace

import pytest

from proxy.gate.ask import ABSENT, FOUND, REFUSED, UNREACHABLE, UNREADABLE
from proxy.gate.decision import Identity
from proxy.gate.memory import Memory
from proxy.gate.providers import OidcLogin, SessionTimes
from proxy.gate.session import SessionRules, user_terms
from proxy.gate.snapshot import Snapshot, Way
from proxy.login import sessions
from proxy.login.people import LoggedOut, Person, Refused
from proxy.login.provider import ProviderError
from proxy.login.seal import Seal
from proxy.login.sessions import SessionKeeper
from proxy.stores.sessions import SessionFile, sessions_beside
from proxy.tokens.ports import StoreError
from proxy.tokens.secret import digest

NOW = 1_700_000_000.0
CORP = OidcLogin("corp", "Corp", "https://idp.example", "promgate", "secret")
SNAPSHOT = Snapshot(
    (), users={"ann": (b"$2b$12$ann",)}, people=(CORP,), session_times=SessionTimes(12 * 3600.0, 3600.0),
    sessions=SessionRules(b"__Host-promgate", "/-/login"),
)  # fmt: skip
CAROL = Person(
    "corp", "oidc:user:carol@x.example", "sub-1", ("oidc:group:sre",), "sid-1", "refresh-1", "idtoken-1", NOW + 300
)


class Provider:
    """What a provider says of a person, as a test wants it; it counts what it was asked."""

    name, title = "corp", "Corp"

    def __init__(self):
        self.says = lambda person, now: replace(person, refresh_token=person.refresh_token + "+", fresh_until=now + 300)
        self.asked = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.was_asked = asyncio.Event()

    async def refresh(self, person, now):
        self.asked.append(person.refresh_token)
        self.was_asked.set()
        await self.hold.wait()
        said = self.says(person, now)
        if isinstance(said, Exception):
            raise said
        return said


class Play:
    """A keeper on a real file, at a time that the test sets. `broken`: the store cannot be used."""

    def __init__(self, directory):
        self.path = sessions_beside(directory / "promgate.db")
        self.seal = Seal(directory / "keys", lives_s=86400.0 * 31)
        self.now = NOW
        self.at = 0.0
        self.broken = False
        self.provider = Provider()
        self.ended = []
        self.opened = 0

    def open_store(self):
        self.opened += 1
        play, store = self, SessionFile(self.path)

        class Breaking:
            def __getattr__(self, name):
                if play.broken and name != "close":
                    raise StoreError("broken")
                return getattr(store, name)

        if self.broken:
            raise StoreError("broken")
        return Breaking()

    async def start(self, snapshot=SNAPSHOT):
        """As a new process."""
        self.memory = Memory(bytes(32))
        keeper = SessionKeeper(self.memory, self.open_store, self.seal, lambda: self.now, lambda: self.at)
        keeper.on_ended = lambda digests: self.ended.extend(sorted(digests))
        keeper.take(snapshot, {"corp": self.provider})
        await keeper.start()
        self.keeper = keeper
        return keeper

    async def restart(self):
        await self.keeper.aclose()
        await self.start()

    def live(self, secret):
        return self.memory.sessions.find(digest(secret.encode()))

    def later(self, seconds):
        self.now += seconds
        self.at += seconds


def play(act):
    """Run `act` with a Play of its own on a loop, and close the keeper."""

    def run(tmp_path):
        async def whole():
            made = Play(tmp_path)
            await made.start()
            try:
                await act(made)
            finally:
                await made.keeper.aclose()

        asyncio.run(whole())

    run.__name__, run.__doc__ = act.__name__, act.__doc__
    return run


@play
async def test_a_session_is_begun_and_outlives_the_process(on):
    secret = await on.keeper.begin(CAROL)
    known = on.live(secret).session
    assert (known.name, known.subject, known.provider_session, known.granted) == (
        CAROL.name, "sub-1", "sid-1", CAROL.granted,
    )  # fmt: skip
    assert len(secret) == 43
    await on.restart()
    raw = b"".join(file.read_bytes() for file in on.path.parent.glob("promgate.db-sessions*"))
    assert b"carol" in raw
    assert not any(one in raw for one in (secret.encode(), b"refresh-1", b"idtoken-1")), "neither its id nor a secret"
    assert on.live(secret).session == known


@play
async def test_o12_each_login_has_an_id_of_its_own_and_ends_the_one_before(on):
    first = await on.keeper.begin(CAROL)
    second = await on.keeper.begin(CAROL, on.live(first).session.digest.hex())
    assert first != second
    assert on.live(first) is None
    assert await on.keeper.find(digest(first.encode())) == ABSENT
    assert on.live(second) is not None
    assert on.ended == [digest(first.encode()).hex()]


@play
async def test_one_that_memory_let_go_is_found_again(on):
    secret = await on.keeper.begin(CAROL)
    on.memory.sessions.forget(digest(secret.encode()))
    answers = await asyncio.gather(*(on.keeper.find(digest(secret.encode())) for _ in range(20)))
    assert set(answers) == {FOUND}
    assert on.live(secret) is not None
    assert await on.keeper.find(bytes(32)) == ABSENT


@play
async def test_a_store_that_cannot_be_read_is_no_answer(on):
    secret = await on.keeper.begin(CAROL)
    on.broken = True
    assert await on.keeper.find(bytes(32)) == UNREADABLE
    with pytest.raises(StoreError):
        await on.keeper.begin(CAROL)
    assert on.live(secret) is not None, "who is known goes on"
    on.broken = False
    assert await on.keeper.find(bytes(32)) == ABSENT
    assert on.opened > 1


@play
async def test_o14_a_logout_bites_at_once_and_is_not_forgotten_by_a_store_that_is_down(on):
    secret = await on.keeper.begin(CAROL)
    on.broken = True
    ending = asyncio.ensure_future(on.keeper.end(digest(secret.encode()).hex()))
    await asyncio.sleep(0)
    assert on.live(secret) is None, "before anything is written"
    assert on.ended == [digest(secret.encode()).hex()]
    await ending
    assert await on.keeper.find(digest(secret.encode())) == UNREADABLE
    on.broken = False
    assert await on.keeper.find(digest(secret.encode())) == ABSENT, "although the store has it still"
    await on.keeper.flush()
    await on.restart()
    assert on.live(secret) is None


@play
async def test_o14_who_logs_out_is_named_to_the_provider(on):
    secret = await on.keeper.begin(CAROL)
    person = await on.keeper.end(digest(secret.encode()).hex())
    assert (person.provider, person.id_token) == ("corp", "idtoken-1")


@pytest.mark.parametrize(
    ("out", "left"),
    [
        (LoggedOut("sub-1", ""), [3, 4]),
        (LoggedOut("", "sid-2"), [1, 3, 4]),
        (LoggedOut("sub-1", "sid-2"), [1, 3, 4]),
        (LoggedOut("nobody", ""), [1, 2, 3, 4]),
    ],
)
def test_o14_a_provider_ends_whom_it_means_known_or_not(out, left, tmp_path):
    @play
    async def act(on):
        secrets = [
            await on.keeper.begin(person)
            for person in (
                CAROL,
                replace(CAROL, provider_session="sid-2"),
                replace(CAROL, subject="sub-3", provider_session="sid-3"),
                replace(CAROL, provider="other"),
            )
        ]
        on.memory.sessions.forget(digest(secrets[1].encode()))
        assert await on.keeper.end_by("corp", out) == 4 - len(left)
        found = [await on.keeper.find(digest(secret.encode())) for secret in secrets]
        assert [number for number, answer in enumerate(found, 1) if answer == FOUND] == left

    act(tmp_path)


@play
async def test_o13_however_many_ask_the_provider_is_asked_once_and_its_new_token_is_kept(on):
    secret = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    on.later(300)
    on.provider.hold.clear()
    asking = [asyncio.ensure_future(on.keeper.refresh(key)) for _ in range(50)]
    await on.provider.was_asked.wait()
    on.provider.hold.set()
    assert set(await asyncio.gather(*asking)) == {FOUND}
    assert on.provider.asked == ["refresh-1"]
    assert await on.keeper.refresh(key) == FOUND
    assert on.provider.asked == ["refresh-1"], "it is fresh"
    on.later(300)
    await on.restart()
    assert await on.keeper.refresh(key) == FOUND
    assert on.provider.asked == ["refresh-1", "refresh-1+"], "over a restart, too"
    assert on.live(secret).session.began_at == NOW, "a refresh makes no session younger"


@play
async def test_o13_a_new_refresh_token_outlives_a_store_that_is_down_just_then(on):
    secret = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    on.later(300)
    on.provider.hold.clear()
    asking = asyncio.ensure_future(on.keeper.refresh(key))
    await on.provider.was_asked.wait()
    on.broken = True
    on.provider.hold.set()
    assert await asking == FOUND
    on.broken = False
    await on.restart()
    on.later(300)
    assert await on.keeper.refresh(key) == FOUND
    assert on.provider.asked == ["refresh-1", "refresh-1+"]


@play
async def test_o13_a_refresh_that_is_under_way_at_the_end_is_waited_for(on):
    """The provider has taken the token of before back by then."""
    secret = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    on.later(300)
    on.provider.hold.clear()
    gone = asyncio.ensure_future(on.keeper.refresh(key))
    await on.provider.was_asked.wait()
    gone.cancel()
    ending = asyncio.ensure_future(on.restart())
    await asyncio.sleep(0)
    on.provider.hold.set()
    await ending
    on.later(300)
    assert await on.keeper.refresh(key) == FOUND
    assert on.provider.asked == ["refresh-1", "refresh-1+"]


@play
async def test_a_provider_that_hangs_does_not_hold_up_the_end(on):
    secret = await on.keeper.begin(CAROL)
    on.later(300)
    on.provider.hold.clear()
    waiting = asyncio.ensure_future(on.keeper.refresh(digest(secret.encode())))
    await on.provider.was_asked.wait()
    await on.restart()
    assert await waiting == UNREACHABLE


@pytest.mark.parametrize(
    "says", [lambda *_: Refused("the token was used twice"), lambda person, _: replace(person, subject="sub-2")]
)
def test_o13_a_refused_refresh_is_a_logout(says, tmp_path):
    @play
    async def act(on):
        secret = await on.keeper.begin(CAROL)
        key = digest(secret.encode())
        on.later(300)
        on.provider.says = says
        assert await on.keeper.refresh(key) == REFUSED
        assert on.live(secret) is None
        assert on.ended == [key.hex()]
        assert await on.keeper.find(key) == ABSENT
        assert await on.keeper.refresh(key) == REFUSED

    act(tmp_path)


@play
async def test_o13_a_refresh_brings_nobody_back_who_logged_out_meanwhile(on):
    secret = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    on.later(300)
    on.provider.hold.clear()
    asking = asyncio.ensure_future(on.keeper.refresh(key))
    await on.provider.was_asked.wait()
    await on.keeper.end(key.hex())
    on.provider.hold.set()
    assert await asking == REFUSED
    assert on.live(secret) is None
    assert await on.keeper.find(key) == ABSENT


@contextlib.asynccontextmanager
async def another(on):
    """Another server on the same file: its keeper, and what it has in memory."""
    first, memory = on.keeper, on.memory
    second, theirs = await on.start(), on.memory.sessions
    on.keeper, on.memory = first, memory
    try:
        yield second, theirs
    finally:
        await second.aclose()


@play
async def test_o14_a_logout_at_one_server_ends_it_at_the_other(on):
    secret = await on.keeper.begin(CAROL)
    stays = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    async with another(on) as (second, theirs):
        assert theirs.find(key) is not None
        await on.keeper.end(key.hex())
        heard = asyncio.get_running_loop().create_future()
        second.on_ended = heard.set_result
        running = asyncio.create_task(second.run())
        async with asyncio.timeout(60):
            assert await heard == {key.hex()}, "and what it holds open there"
        running.cancel()
        assert theirs.find(key) is None
        assert await second.find(key) == ABSENT
        assert await second.refresh(key) == REFUSED
        assert theirs.find(digest(stays.encode())) is not None
        await second.flush()
    assert await on.keeper.find(key) == ABSENT


@play
async def test_what_is_begun_at_one_server_is_good_at_the_other_and_refreshed_by_one_of_them(on):
    async with another(on) as (second, theirs):
        secret = await on.keeper.begin(CAROL)
        key = digest(secret.encode())
        assert await second.find(key) == FOUND
        on.later(300)
        assert [await on.keeper.refresh(key), await second.refresh(key)] == [FOUND, FOUND]
        assert on.provider.asked == ["refresh-1"], "a second use of its token would look like a theft"
        assert theirs.find(key).session == on.live(secret).session


@play
async def test_o13_two_servers_at_once_ask_the_provider_once(on):
    async with another(on) as (second, theirs):
        secret = await on.keeper.begin(CAROL)
        key = digest(secret.encode())
        assert await second.find(key) == FOUND
        on.later(300)
        on.provider.hold.clear()
        asking = [asyncio.ensure_future(keeper.refresh(key)) for keeper in (on.keeper, second, second)]
        await on.provider.was_asked.wait()
        on.provider.hold.set()
        assert await asyncio.gather(*asking) == [FOUND] * 3
        assert on.provider.asked == ["refresh-1"]
        assert theirs.find(key).session == on.live(secret).session


@play
async def test_o13_a_server_that_dies_while_it_asks_holds_up_the_other_for_a_while(on):
    async with another(on) as (second, _):
        secret = await on.keeper.begin(CAROL)
        key = digest(secret.encode())
        assert await second.find(key) == FOUND
        on.later(300)
        dead = SessionFile(on.path)
        assert dead.claim(key, "dead", on.now, on.now + 12)
        dead.close()
        asking = asyncio.ensure_future(second.refresh(key))
        await asyncio.sleep(0.3)
        assert on.provider.asked == []
        on.later(12)
        assert await asking == FOUND
        assert on.provider.asked == ["refresh-1"]


@play
async def test_o13_a_refresh_at_one_server_brings_nobody_back_who_logged_out_at_the_other(on):
    secret = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    async with another(on) as (second, _):
        on.later(300)
        on.provider.hold.clear()
        asking = asyncio.ensure_future(second.refresh(key))
        await on.provider.was_asked.wait()
        await on.keeper.end(key.hex())
        on.provider.hold.set()
        await asking
        await second.follow()
        assert await second.find(key) == ABSENT
    await on.restart()
    assert on.live(secret) is None


@play
async def test_a_provider_that_is_down_is_asked_again_after_a_while(on):
    secret = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    on.later(300)
    on.provider.says = lambda *_: ProviderError("down")
    assert [await on.keeper.refresh(key) for _ in range(5)] == [UNREACHABLE] * 5
    assert len(on.provider.asked) == 1
    on.later(sessions._PAUSE_S)
    on.provider.says = lambda person, now: replace(person, fresh_until=now + 300)
    assert await on.keeper.refresh(key) == FOUND
    assert on.live(secret) is not None


@play
async def test_without_the_keys_that_sealed_it_a_session_ends_with_its_provider_s_word(on):
    secret = await on.keeper.begin(CAROL)
    key = digest(secret.encode())
    on.seal = Seal(None, lives_s=86400.0)
    on.seal.prepare(on.now)
    await on.restart()
    assert on.live(secret) is not None
    on.later(300)
    assert await on.keeper.refresh(key) == REFUSED


@play
async def test_last_sights_are_written_coarsely_and_never_on_the_way_of_a_request(on):
    secret = await on.keeper.begin(CAROL)
    live = on.live(secret)
    live.seen_at = NOW + 59
    await on.keeper.flush()
    assert live.kept_at == NOW
    live.seen_at = NOW + 61
    await on.keeper.flush()
    assert live.kept_at == NOW + 61
    live.seen_at = NOW + 70
    await on.restart()
    assert on.live(secret).seen_at == NOW + 70, "a stop is no reason to forget one"


@pytest.mark.parametrize(
    "snapshot",
    [
        replace(SNAPSHOT, people=()),
        replace(SNAPSHOT, people=(replace(CORP, client_id="other"),)),
        replace(SNAPSHOT, session_times=SessionTimes(10.0, 3600.0)),
    ],
)
def test_a_reload_ends_what_it_does_not_bear(snapshot, tmp_path):
    @play
    async def act(on):
        secret = await on.keeper.begin(CAROL)
        password = await on.keeper.begin_with_password(
            Identity("basic:ann", frozenset(), Way.BASIC, terms=user_terms("ann", b"$2b$12$ann"))
        )
        on.later(20)
        on.keeper.take(snapshot, {})
        assert on.live(secret) is None
        assert digest(secret.encode()).hex() in on.ended
        assert (on.live(password) is None) is (snapshot.session_times.absolute_s == 10.0)

    act(tmp_path)


@play
async def test_what_is_dead_is_let_go_and_swept(on):
    secret = await on.keeper.begin(CAROL)
    on.later(3600)
    on.keeper.take(SNAPSHOT, {})
    assert on.live(secret) is None
    assert on.keeper.alive == 0
    on.later(sessions._SWEEP_EACH_S)
    await on.keeper.flush()
    assert await on.keeper.find(digest(secret.encode())) == ABSENT


@play
async def test_logins_are_counted(on):
    on.keeper.count("corp", "ok")
    on.keeper.count("", "refused")
    assert on.keeper.counts == Counter({("corp", "ok"): 1, ("password", "refused"): 1})
