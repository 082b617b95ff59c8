"""How far a name is on its way from one token to the next, and what keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.desk.configured import left_in_file, story_of
from proxy.desk.desk import Report
from proxy.desk.holding import left_behind, left_lines, outdated, outdated_lines
from proxy.desk.schedule import due_of
from proxy.desk.senders import judge_name, judgement_row, straggler_lines
from proxy.desk.words import when
from proxy.tokens import lifecycle
from proxy.tokens.configured import is_configured
from proxy.tokens.rotation import Phase, Rotation, is_renewal, phase_at
from proxy.tokens.token import ACCEPTED, TokenState, ended_at, state_at

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.lifecycle import Refusal


def status(desk: Desk, name: str) -> Report | Refusal:
    """The tokens that open the door, the last rotation with its receipts, and whether the overlap may end."""
    story, now = story_of(desk, name), desk.clock()
    if not story.tokens:
        return lifecycle.unknown(name)
    accepted = [token for token in story.tokens if state_at(token, now) in ACCEPTED]
    current = next((token for token in accepted if state_at(token, now) is TokenState.CURRENT), None)
    facts: dict[str, Any] = {
        "name": name,
        "kind": story.tokens[-1].kind.value,
        "current": None if current is None else current.id,
        "since": None if current is None else when(current.current_from or None),
        "expires": None if current is None else when(current.expires_at),
        "accepted": [
            {
                "id": token.id,
                "state": state_at(token, now).value,
                "until": when(ended_at(token)),
                "until_at_most": when(token.max_until),
            }
            for token in accepted
            if token is not current
        ],
        "rotation": rotation_row(desk, story.rotations[-1], now) if story.rotations else None,
    }
    judgement, notes = judge_name(desk, story, now)
    facts |= judgement_row(judgement, now) | {"notes": list(notes)}
    facts["left_behind"] = left_behind(desk, story)
    facts["outdated"] = outdated(desk, story)
    next_one = due_of(desk, story)
    facts["due"] = None if next_one is None else when(next_one.at)
    lines = [*_lines(facts), *left_lines(desk, story), *outdated_lines(desk, story)]
    lines += straggler_lines(name, judgement, now)
    if not is_configured(story.tokens[0].id) and (left := left_in_file(desk, name)):
        lines.append(left)
    if next_one is not None:
        what = "is due since" if next_one.at <= now else "is due at"
        lines.append(f"{name}: the next rotation {what} {when(next_one.at)}")
    lines.append(f"{judgement.verdict}: {judgement.reason}")
    return Report((*lines, *notes), facts)


def rotations(desk: Desk, limit: int = 50) -> Report:
    """The rotations of all names, newest first, and all that are open, in `rotations`."""
    now = desk.clock()
    return Report(facts={"rotations": [rotation_row(desk, one, now) for one in desk.store.recent_rotations(limit)]})


def rotation(desk: Desk, rotation_id: str) -> Report | Refusal:
    """One rotation, whatever became of it."""
    found = desk.store.rotation(rotation_id)
    if found is None:
        return lifecycle.Refusal(f"there is no rotation {rotation_id[:80]!r}", lifecycle.Why.UNKNOWN)
    return Report(facts=rotation_row(desk, found, desk.clock()))


def rotation_row(desk: Desk, rotation: Rotation, now: float) -> dict[str, Any]:
    """One rotation, for a program."""
    phase = phase_at(rotation, now)
    receipts = {
        one.target: when(one.at) for one in desk.store.receipts(rotation.id) if one.token_id == rotation.token_id
    }
    missing = [sink.target for sink in desk.sinks(rotation.name) if sink.target not in receipts]
    return {
        "id": rotation.id,
        "name": rotation.name,
        "phase": phase.value,
        "token": rotation.token_id,
        "started": when(rotation.started_at),
        "tries": rotation.tries,
        "proven": when(rotation.proved_at),
        "receipts": receipts,
        "missing": missing if rotation.is_open else [],
        "current": when(rotation.current_at),
        "failed": when(rotation.failed_at),
        "failure": rotation.failure,
        "renews_itself": is_renewal(rotation),
        "driven_by": rotation.lease_owner.partition("#")[0] if phase is Phase.RUNNING else None,
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    name, rotation = facts["name"], facts["rotation"]
    if facts["current"] and is_configured(facts["current"]):
        lines = [f"{name}: token {facts['current']} is current, by write_tokens of the configuration"]
    elif facts["current"]:
        lines = [f"{name}: token {facts['current']} is current since {facts['since']}"]
    else:
        lines = [f"{name} has no current token: `promgate token rotate {name}` makes one"]
    lines += [f"{name}: token {one['id']} is accepted {_how_long(one)}" for one in facts["accepted"]]
    if rotation is None:
        return lines
    lines.append(f"{name}: rotation {rotation['id']} is {rotation['phase']}, begun {rotation['started']}")
    lines += [
        f"{name}: {target} has token {rotation['token']} since {at}" for target, at in rotation["receipts"].items()
    ]
    lines += [f"{name}: {target} has not got token {rotation['token']}" for target in rotation["missing"]]
    if rotation["failure"]:
        lines.append(f"{name}: {rotation['failure']}")
    if rotation["phase"] == Phase.HALTED:
        take_up = f"`promgate token rotate {name} --id {rotation['id']}` takes it up, "
        lines.append(
            f"{name}: {'' if rotation['renews_itself'] else take_up}`promgate token rollback {name}` gives it up"
        )
    return lines


def _how_long(one: dict[str, Any]) -> str:
    if one["until"]:
        return f"until {one['until']}"
    return "until it is taken out of write_tokens" if is_configured(one["id"]) else "until a rotation ends"
