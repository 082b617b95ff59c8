"""End the overlap of a name now: when all its senders have moved, or by force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.desk.desk import Report, try_to_tell
from proxy.desk.ending import insist
from proxy.desk.senders import judge_name, judgement_row
from proxy.tokens import overlap
from proxy.tokens.lifecycle import Refusal

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Change, Story


def finish(desk: Desk, name: str, *, force: bool = False) -> Report | Refusal:
    """Raises StoreError. It is judged anew each time that another process was faster."""
    said: list[tuple[str, ...]] = []
    facts: list[dict[str, object]] = []

    def decide(story: Story) -> Change | Refusal:
        now = desk.clock()
        judgement, notes = judge_name(desk, story, now)
        said.append(notes)
        facts.append(judgement_row(judgement, now))
        return overlap.finish(name, story.tokens, judgement, now, force=force)

    decided = insist(desk, name, decide)
    if isinstance(decided, Refusal):
        return decided
    change, generation = decided
    notes, failure = try_to_tell(desk, generation)
    ended = [token.id for token in change.put]
    verdict = f"{name}: {facts[-1]['verdict']}, {facts[-1]['reason']}"
    lines = (*said[-1], verdict, f"{name}: the overlap of {', '.join(ended)} has ended", *notes)
    return Report(lines, {"name": name, "ended": ended, **facts[-1]}, failure)
