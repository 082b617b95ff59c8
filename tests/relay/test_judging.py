"""The gate's word on what is not relayed: by the same finder, and at the same price."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.gate.ask import BUSY, CheckPassword
from proxy.gate.credentials import ShownPassword, read_credential
from proxy.gate.decision import Deny, Forward, Identity, Reason
from proxy.gate.redirect import RedirectGate
from proxy.gate.session import user_terms
from proxy.gate.snapshot import Bounds, RateLimit, Way
from proxy.relay.judging import Judging
from tests.relay.stage import on_a_loop, stage
from tests.wire.play import admit

IP, OTHER_IP = "198.51.100.1", "198.51.100.2"
HASHES = (b"$2b$12$ann",)
BOUNDS = Bounds(
    guesses=RateLimit(rate=0.001, interval_s=1.0, burst=4, by_identity=False),
    guesses_per_user=RateLimit(rate=0.001, interval_s=1.0, burst=6),
)


class Passwords:
    """Ann's is `right`. Knows what it was asked."""

    def __init__(self, says=None):
        self.asked = []
        self._says = says

    async def answer(self, question):
        assert isinstance(question, CheckPassword)
        self.asked.append(question)
        await asyncio.sleep(0)
        if self._says is not None:
            return self._says
        return HASHES[0] if question.password == b"right" and question.hashes == HASHES else False


def people(snapshot):
    return replace(snapshot, users={"ann": HASHES}, roles={"basic:ann": frozenset({"viewer"})})


def judged(finder, **options):
    return stage(9, finder=finder, bounds=BOUNDS, change=people, **options)


@on_a_loop
async def test_a_right_password_is_somebody():
    async with judged(Passwords()) as relay:
        said = await Judging(relay.context).password(ShownPassword("ann", b"right"), IP)
        assert said == Identity(
            "basic:ann", frozenset({"viewer"}), Way.BASIC, terms=user_terms("ann", HASHES[0])
        )


@pytest.mark.parametrize(
    ("says", "shown", "reason"),
    [
        (None, ShownPassword("ann", b"wrong"), Reason.BAD_CREDENTIAL),
        (None, ShownPassword("nobody", b"right"), Reason.BAD_CREDENTIAL),
        (BUSY, ShownPassword("ann", b"right"), Reason.BUSY),
    ],
)
def test_a_wrong_one_is_nobody(says, shown, reason):
    @on_a_loop
    async def test():
        async with judged(Passwords(says)) as relay:
            said = await Judging(relay.context).password(shown, IP)
            assert isinstance(said, Deny)
            assert said.reason is reason

    test()


@on_a_loop
async def test_guesses_in_a_form_are_charged_to_address_and_user():
    finder = Passwords()
    async with judged(finder) as relay:
        judging = Judging(relay.context)
        wrong = [await judging.password(ShownPassword("ann", b"%d" % n), IP) for n in range(4)]
        assert [deny.reason for deny in wrong] == [Reason.BAD_CREDENTIAL] * 2 + [Reason.TOO_MANY_GUESSES] * 2
        assert len(finder.asked) == 2, "each was charged twice, and what is over the limit is not looked at"
        wrong = [await judging.password(ShownPassword("ann", b"%d" % n), OTHER_IP) for n in range(2)]
        assert [deny.reason for deny in wrong] == [Reason.BAD_CREDENTIAL, Reason.TOO_MANY_GUESSES]
        assert all(deny.retry_after_s > 0 for deny in wrong if deny.reason is Reason.TOO_MANY_GUESSES)


@on_a_loop
async def test_who_was_right_before_is_not_locked_out_of_a_form():
    async with judged(Passwords()) as relay:
        judging = Judging(relay.context)
        right = ShownPassword("ann", b"right")
        assert isinstance(await judging.password(right, IP), Identity)
        for n in range(9):
            await judging.password(ShownPassword("ann", b"%d" % n), IP)
        assert isinstance(await judging.password(right, IP), Identity)


@on_a_loop
async def test_a_request_is_judged_with_all_its_questions():
    def with_people(snapshot):
        open_route, plain, *rest = people(snapshot).routes
        plain = replace(plain, ways=frozenset({Way.BASIC}), rules=(replace(plain.rules[0], role="viewer"),))
        return replace(people(snapshot), routes=(open_route, plain, *rest))

    finder = Passwords()
    head = admit(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    async with stage(9, finder=finder, bounds=BOUNDS, change=with_people) as relay:
        judging = Judging(relay.context)
        for value, kind in ((b"Basic YW5uOnJpZ2h0", Forward), (b"Basic YW5uOndyb25n", Deny)):
            verdict = await judging.request(head, read_credential(value), IP)
            assert isinstance(verdict, kind)
            assert verdict.route.name == "plain"
        assert len(finder.asked) == 2
        assert relay.outcomes == [], "nothing was relayed"


@on_a_loop
async def test_a_rate_is_waited_for():
    limit = RateLimit(rate=20, interval_s=1.0, burst=1, max_delay_s=5.0)
    head = admit(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    async with stage(9, limit=limit) as relay:
        shown = read_credential(relay.bearer.strip().removeprefix(b"Authorization: "))
        judging = Judging(relay.context)
        first, second = [await judging.request(head, shown, IP) for _ in range(2)]
        assert isinstance(first, Forward)
        assert isinstance(second, Forward)
        assert second.wait_s == 0.0, "it was charged once, and has waited"


@on_a_loop
async def test_the_plain_listener_lets_nobody_in():
    async with judged(Passwords()) as relay:
        relay.context.gate = RedirectGate(relay.context.gate.snapshot)
        said = await Judging(relay.context).password(ShownPassword("ann", b"right"), IP)
        assert said.reason is Reason.PLAIN_HTTP
