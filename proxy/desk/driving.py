"""Drives a rotation from wherever it is to its end: asks `next_step`, takes it, writes it down, asks again.

Each step is committed before the next is taken, under a lease: who has lost it (a process that was stopped for too
long) writes nothing any more. A step that fails leaves all as it is, and the journal says why.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from proxy.desk.desk import TRIES, Report, tell_server, try_to_tell
from proxy.desk.holding import kept, left_lines
from proxy.desk.lease import while_renewing
from proxy.desk.words import how_it_ended, when
from proxy.tokens import succession, tries
from proxy.tokens.lifecycle import Issued, Refusal, Why
from proxy.tokens.ports import CanaryError, Conflict, DeliveryError, Parcel, Receipt, StoreError
from proxy.tokens.rotation import (
    Confirm,
    Deliver,
    Expired,
    Finished,
    Halt,
    Leased,
    MakeCurrent,
    Mint,
    Offer,
    Plan,
    Prove,
    is_renewal,
    next_step,
)
from proxy.tokens.token import ended_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Change, Prover, Sink, Story
    from proxy.tokens.rotation import Rotation, Step
    from proxy.tokens.token import Token


_T = TypeVar("_T")


class Drive:
    """One process's work on one rotation. `owner` is its name in the lease: of this drive, not of the process alone."""

    def __init__(
        self, desk: Desk, owner: str, name: str, rotation_id: str, sinks: Sequence[Sink], prover: Prover | None
    ) -> None:
        self._desk = desk
        self.owner = owner
        self._name = name
        self.id = rotation_id
        self._sinks = {sink.target: sink for sink in sinks}
        self._prover = prover
        self._parcel: Parcel | None = None
        self._generation = 0
        self._confirmed = False
        self._notes: dict[str, None] = {}  # each once, in order

    def note(self, line: str) -> None:
        """A line for the operator, before what comes."""
        self._notes[line] = None

    def take(self, issued: Issued) -> None:
        """Commit a fresh successor, and keep its secret in hand. Raises StoreError, Conflict too."""
        self.adopt(issued, self._desk.store.commit(issued.change))

    def adopt(self, issued: Issued, generation: int) -> None:
        """Keep the secret of a successor that was committed as that generation."""
        token = issued.change.put[-1]
        self._generation = generation
        self._parcel = Parcel(self._name, token.kind, token.id, self.id, issued.secret)
        self._confirmed = False

    def run(self) -> Report | Refusal:
        """To the end, or to the step that fails. Raises StoreError when the store cannot even be read."""
        conflicts = 0
        while True:
            story = self._desk.store.story(self._name)
            rotation = next(one for one in story.rotations if one.id == self.id)
            step = next_step(self._plan(story, rotation), self._desk.clock())
            try:
                ended = self._take(step, story, rotation)
            except Conflict as error:
                # Somebody revoked a token, or took the rotation over: the next look tells.
                conflicts += 1
                if conflicts == TRIES:
                    return self._halted(str(error))
            except StoreError as error:
                return self._halted(str(error))
            else:
                if ended is not None:
                    return ended

    def _plan(self, story: Story, rotation: Rotation) -> Plan:
        receipts = self._desk.store.receipts(self.id)
        is_provable = self._prover is not None and tries.can_go_back(story, rotation, self._desk.clock())
        # Whoever drives what waited for its sender was told to do so instead of it.
        is_free = is_renewal(rotation) or self._desk.is_gone(rotation.lease_owner)
        return Plan(
            rotation=rotation,
            successor=_token(story, rotation.token_id),
            owner=self.owner,
            has_secret=self._parcel is not None and self._parcel.token_id == rotation.token_id,
            confirmed=self._confirmed,
            is_owner_gone=is_free,
            must_prove=is_provable,
            targets=tuple(self._sinks),
            received=frozenset(one.target for one in receipts if one.token_id == rotation.token_id),
        )

    def _take(self, step: Step, story: Story, rotation: Rotation) -> Report | Refusal | None:
        match step:
            case Mint():
                return self._mint(story, rotation)
            case Confirm():
                return self._confirm()
            case Prove():
                return self._prove()
            case Offer():
                self._write_down(offered_at=self._desk.clock())
            case Deliver(target, is_last):
                return self._deliver(self._sinks[target], is_last=is_last)
            case MakeCurrent():
                return self._make_current()
            case Expired():
                return self._expired(story, rotation)
            case Finished() | Halt():
                ended = how_it_ended(rotation)
                return ended if isinstance(ended, Refusal) else Report((ended,), self._facts())
            case Leased(owner, until):
                return Refusal(
                    f"rotation {self.id} of {self._name} is being driven by {owner}: let it end, or run this again "
                    f"after {when(until)}"
                )
        return None

    def _mint(self, story: Story, rotation: Rotation) -> Refusal | None:
        if self._parcel is not None and rotation.lease_owner != self.owner:
            return Refusal(
                f"rotation {self.id} of {self._name} was taken over by {rotation.lease_owner}: "
                f"`promgate token status {self._name}` tells how far it is"
            )
        issued = succession.mint_again(
            story,
            rotation,
            owner=self.owner,
            now=self._desk.clock(),
            random=self._desk.random,
            kept=kept(self._desk, story),
        )
        self.take(issued)
        return None

    def _confirm(self) -> Refusal | None:
        """Accepted by the server before anybody has it: else the first request with it might be refused."""
        try:
            for line in self._leased(lambda: tell_server(self._desk, self._generation)):
                self.note(line)
        except StoreError as error:
            return self._halt(f"the running server does not use the new token yet: {error}")
        self._confirmed = True
        return None

    def _expired(self, story: Story, rotation: Rotation) -> Refusal:
        token = _token(story, rotation.token_id)
        assert token is not None
        return self._halt(
            f"token {token.id} expired at {when(token.expires_at)}, before every target had it: tokens of {self._name} "
            f"live for {(token.expires_at or 0.0) - token.minted_at:.0f} s, as `promgate token create --expires` said"
        )

    def _prove(self) -> Refusal | None:
        parcel, prover = self._in_hand(), self._prover
        assert prover is not None
        try:
            self._leased(lambda: prover.prove(parcel.name, parcel.kind, parcel.secret))
        except CanaryError as error:
            return self._refute(f"the canary failed at step {error.step}: {error}")
        now = self._desk.clock()
        self._write_down(proved_at=now, offered_at=now)
        self.note(f"{self._name}: token {parcel.token_id} is proven by a canary")
        return None

    def _deliver(self, sink: Sink, *, is_last: bool) -> Report | Refusal | None:
        parcel = self._in_hand()
        try:
            self._leased(lambda: sink.deliver(parcel))
        except DeliveryError as error:
            return self._halt(f"delivery failed: {error}")
        if sink.target != "stdout":
            self.note(f"{self._name}: token {parcel.token_id} is delivered to {sink.target}")
        receipt = Receipt(self.id, parcel.token_id, sink.target, self._desk.clock())
        if is_last:
            return self._make_current(receipt)
        self._write_down(receipts=(receipt,))
        return None

    def _make_current(self, *receipts: Receipt) -> Report | None:
        change, generation = self._commit(
            lambda story, mine: succession.make_current(
                story, mine, now=self._desk.clock(), max_overlap_s=self._desk.rules.max_overlap_s, receipts=receipts
            )
        )
        if not change.put:
            return None
        *stepped_down, fresh = change.put
        notes, failure = try_to_tell(self._desk, generation)
        for line in notes:
            self.note(line)
        lines = [f"{self._name}: token {token.id} is accepted until {when(ended_at(token))}" for token in stepped_down]
        until = "" if fresh.expires_at is None else f", until {when(fresh.expires_at)}"
        lines.append(f"{self._name}: token {fresh.id} ({fresh.kind}) is current{until}")
        return Report((*self._notes, *lines), self._facts(), failure)

    def _facts(self) -> dict[str, object]:
        rotation = self._desk.store.rotation(self.id)
        assert rotation is not None
        receipts = [one for one in self._desk.store.receipts(self.id) if one.token_id == rotation.token_id]
        tokens = self._desk.store.named(self._name)
        return {
            "name": self._name,
            "rotation": self.id,
            "token": rotation.token_id,
            "current_at": when(rotation.current_at),
            "previous": {
                token.id: when(ended_at(token))
                for token in tokens
                if token.accepted_until is not None and token.accepted_until > self._desk.clock()
            },
            "receipts": {receipt.target: when(receipt.at) for receipt in receipts},
        }

    def _halt(self, failure: str) -> Refusal:
        """The old token stays current. The word to the operator counts more than the one to the journal."""
        with suppress(StoreError):
            self._commit(lambda story, mine: succession.halt(story, mine, now=self._desk.clock(), failure=failure))
        return self._halted(failure)

    def _halted(self, failure: str) -> Refusal:
        return Refusal(
            f"rotation {self.id} of {self._name} halted: {failure}; every token stays as it was. Take it up again with "
            f"`promgate token rotate {self._name} --id {self.id}`, or give it up with "
            f"`promgate token rollback {self._name}`",
            Why.FAILED,
        )

    def _refute(self, failure: str) -> Refusal:
        _, generation = self._commit(
            lambda story, mine: succession.refute(story, mine, now=self._desk.clock(), failure=failure)
        )
        _, late = try_to_tell(self._desk, generation)
        left = left_lines(self._desk, self._desk.store.story(self._name))
        told = "; ".join(
            ["The new token is revoked, nobody had it, and the old one stays current", *left, *([late] if late else [])]
        )
        return Refusal(f"rotation {self.id} of {self._name} ended: {failure}. {told}", Why.FAILED)

    def _write_down(self, *, receipts: tuple[Receipt, ...] = (), **facts: float) -> None:
        self._commit(
            lambda story, mine: succession.note(story, mine, now=self._desk.clock(), receipts=receipts, **facts)
        )

    def _commit(self, write: Callable[[Story, Rotation], Change]) -> tuple[Change, int]:
        """Write into the journal what has happened, whatever else of the name has changed, while the lease is ours."""
        for tries_left in reversed(range(TRIES)):
            story = self._desk.store.story(self._name)
            rotation = next(one for one in story.rotations if one.id == self.id)
            if rotation.lease_owner != self.owner or not rotation.is_open:
                raise Conflict(f"rotation {self.id} of {self._name} is no longer driven from here")
            change = write(story, rotation)
            try:
                return change, self._desk.store.commit(change)
            except Conflict:
                if not tries_left:
                    raise
        raise AssertionError

    def _leased(self, work: Callable[[], _T]) -> _T:
        return while_renewing(work, self._write_down)

    def _in_hand(self) -> Parcel:
        assert self._parcel is not None
        return self._parcel


def _token(story: Story, token_id: str) -> Token | None:
    return next((token for token in story.tokens if token.id == token_id), None)
