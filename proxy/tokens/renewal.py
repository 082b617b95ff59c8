"""A rotation that the sender drives itself: it shows the token that it has, and is given the successor.

    begin -> pick up -> (the sender puts it in place) -> show the successor -> current

For names with one sender alone (`tokens.senders`). The successor is minted when it is picked up, so no secret waits
for anybody. A sender that comes again with the old token has not got it: it is given another one, and the one before,
which nobody used, ends; should it have been put in place all the same, it is held ("not now") and not refused, so
that no sample is lost. Whoever comes and is not the sender that the ledger knows, or that picked it up, is a
stranger: there is no telling which of the two is the thief, so the rotation stops and the operator decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from proxy.tokens import succession
from proxy.tokens.ledger import Kind
from proxy.tokens.lifecycle import Issued, Refusal
from proxy.tokens.ports import Change, Entry, Receipt
from proxy.tokens.rotation import SENDER, Rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from proxy.tokens.ledger import Sighting
    from proxy.tokens.ports import Story

_NO_END_S = 100 * 365 * 86400.0
#: Who was seen last before that says nothing of where the sender is now.
_KNOWN_S = 86400.0
#: Two that send within this time are two.
_TOGETHER_S = 300.0
#: Programs of our own, which are seen where they run.
_OURS = ("promgate-renew", "promgate-canary")
_PICKED_UP, _RENEWED = "pick-up:", "renew:"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `certificate`: its identity by certificate (`cert:...`), empty without one. `agent`: its User-Agent."""

    address: str
    agent: str
    certificate: str = ""

    def __str__(self) -> str:
        family = "".join(char for char in self.agent.partition("/")[0][:64] if char.isprintable())
        return " ".join(filter(None, (self._known_by, self.address, family)))

    @property
    def _known_by(self) -> str:
        """One word, so that no name can look like another one with an address behind it."""
        return self.certificate.replace("%", "%25").replace(" ", "%20")

    def is_one_with(self, told: str) -> bool:
        """Whether `told`, a Caller as text, is the same one: by its certificate, else by where it is."""
        return told.partition(" ")[0] == self._known_by if self.certificate else told == str(self)


def begin(
    story: Story, *, rotation_id: str, now: float, overlap_s: float, max_overlap_s: float
) -> Change | Refusal:
    """Open a rotation that waits for its sender. No token changes."""
    refusal = succession.cannot_begin(story, rotation_id) or succession.cannot_overlap(overlap_s, max_overlap_s)
    if refusal is not None:
        return refusal
    rotation = Rotation(
        rotation_id, story.name, "", now, overlap_s, tries=0, lease_owner=SENDER, lease_until=now + _NO_END_S
    )
    return Change(story.name, story.tokens, (), Entry(None, rotation))


def pick_up(
    story: Story,
    rotation: Rotation,
    caller: Caller,
    *,
    now: float,
    random: Callable[[int], bytes],
    grace_s: float,
    kept: Collection[str] = (),
) -> Issued:
    """Mint the successor for `caller`. One that was picked up before and not used ends, held for `grace_s`."""
    issued = succession.mint_again(story, rotation, owner=SENDER, now=now, random=random, kept=kept)
    *spent, fresh = issued.change.put
    unused = [
        replace(token, revoked_at=now, held_until=now + grace_s)
        for token in story.tokens
        if token.id == rotation.token_id and token.revoked_at is None
    ]
    spent = [token for token in spent if token.id != rotation.token_id]
    assert issued.change.entry is not None
    put = replace(issued.change.entry.put, offered_at=now, lease_until=now + _NO_END_S)
    receipt = Receipt(rotation.id, fresh.id, f"{_PICKED_UP}{caller}", now)
    entry = Entry(rotation, put, (receipt,))
    return Issued(replace(issued.change, put=(*spent, *unused, fresh), entry=entry), issued.secret)


def take_over(story: Story, rotation: Rotation, caller: Caller, *, now: float, max_overlap_s: float) -> Change:
    """The sender has shown the successor: it has it in place."""
    receipt = Receipt(rotation.id, rotation.token_id, f"{_RENEWED}{caller}", now)
    return succession.make_current(story, rotation, now=now, max_overlap_s=max_overlap_s, receipts=(receipt,))


def stop(story: Story, rotation: Rotation, *, now: float, failure: str) -> Change:
    """A stranger came: nobody is given anything any more, and every token stays as it is."""
    put = replace(rotation, failed_at=now, failure=failure, lease_until=now)
    return Change(story.name, story.tokens, (), Entry(rotation, put))


def find_stranger(
    caller: Caller, sightings: Iterable[Sighting], receipts: Iterable[Receipt], now: float
) -> str | None:
    """Why `caller` is not the one sender of the name, as far as can be told; None if nothing speaks against it."""
    picked_up = [one.target.removeprefix(_PICKED_UP) for one in receipts if one.target.startswith(_PICKED_UP)]
    if picked_up and not caller.is_one_with(picked_up[0]):
        return f"{caller} came for the successor that {picked_up[0]} has picked up"
    seen = [
        one
        for one in sightings
        if one.kind is Kind.USED and not one.agent.startswith(_OURS) and now - one.last_seen < _KNOWN_S
    ]
    place_of = _place if caller.certificate else attrgetter("address")
    places = {place_of(one) for one in seen}
    mine = {caller.certificate, caller.address} & places
    if places and not mine:
        return f"{caller} came for the successor, and the sender was seen at {', '.join(sorted(places))}"
    others = {place_of(one) for one in seen if now - one.last_seen < _TOGETHER_S} - mine
    if others:
        return f"{caller} came for the successor, while {', '.join(sorted(others))} sends, too"
    return None


def is_in_use(token_id: str, sightings: Iterable[Sighting]) -> bool:
    """Whether somebody has sent with this token."""
    return any(
        one.token_id == token_id and one.kind is Kind.USED and not one.agent.startswith(_OURS) for one in sightings
    )


def _place(one: Sighting) -> str:
    return one.sender if one.sender.startswith("cert:") else one.address
