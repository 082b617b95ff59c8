"""What the calendar asks of a rotation that it begins: judged by what the store says when it is written to.

Two processes may find the same name due: the one that was slower must not rotate it once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.tokens.lifecycle import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.tokens.ports import Change, Story


@dataclass(frozen=True, slots=True)
class Calendar:
    """`is_due`: of the name's story, as it is now. `keeps_apart`: from the beginnings of other names."""

    is_due: Callable[[Story], bool]
    keeps_apart: bool = True

    def mark(self, change: Change) -> Change:
        """The store refuses it in a minute in which another name began."""
        assert change.entry is not None
        return replace(change, entry=replace(change.entry, keeps_apart=self.keeps_apart))


def not_due(name: str) -> Refusal:
    return Refusal(f"{name} is not due any more: another process has rotated it, or its calendar was changed")
