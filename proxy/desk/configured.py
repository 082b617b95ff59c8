"""Names whose tokens stand in the configuration (`write_tokens`): shown like others, and changed by no command."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.tokens.lifecycle import Refusal

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Story
    from proxy.tokens.token import Token


def configured(desk: Desk, name: str) -> tuple[Token, ...]:
    """What the configuration lists of `name`, the current one first."""
    return tuple(token for token in desk.rules.configured if token.name == name)


def story_of(desk: Desk, name: str) -> Story:
    """What the store holds of `name`, or, where that is nothing, what the configuration lists. Raises StoreError."""
    story = desk.store.story(name)
    return story if story.tokens else replace(story, tokens=configured(desk, name))


def find_configured(desk: Desk, digest: bytes) -> Token | None:
    return next((token for token in desk.rules.configured if token.digest == digest), None)


def refuse_configured(desk: Desk, name: str) -> Refusal | None:
    """The refusal to change a name that only the configuration has. Raises StoreError."""
    if not configured(desk, name) or desk.store.named(name):
        return None
    return Refusal(
        f"the tokens of {name} stand in write_tokens of the configuration, which no command changes: write the digest "
        "of the next one there, or take one away, and reload (docs/rotation.md)"
    )


def left_in_file(desk: Desk, name: str) -> str:
    """What has to be said after the store's tokens of `name` were changed; empty: nothing."""
    mine = configured(desk, name)
    if not mine:
        return ""
    ids = ", ".join(token.id for token in mine)
    return f"{ids} of {name} in write_tokens stays accepted until it is taken out of the file and that is reloaded"
