"""Whose data somebody sees: compiled at load. Of several tenants it is the first, in the order of the configuration.

Joining them (`a|b`) would show more than any single line of the configuration says; whoever wants that writes it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.decision import Identity

#: Begins the keys that stand for whoever has a role; no identity begins so.
ROLE = "role:"


class Tenants:
    """`written` maps an identity, another key of `Snapshot.roles`, or ROLE and a role to a tenant, in that order."""

    __slots__ = ("_of_roles", "_of_whom", "written")

    def __init__(self, written: Mapping[str, str] = MappingProxyType({})) -> None:
        self.written = written
        placed = {key: (place, tenant) for place, (key, tenant) in enumerate(written.items())}
        self._of_roles = {key[len(ROLE) :]: each for key, each in placed.items() if key.startswith(ROLE)}
        self._of_whom = {key: each for key, each in placed.items() if not key.startswith(ROLE)}

    def __eq__(self, other: object) -> bool:
        """The order tells which of two counts, so it is compared, too."""
        return isinstance(other, Tenants) and [*self.written.items()] == [*other.written.items()]

    def __hash__(self) -> int:
        return hash(tuple(self.written.items()))

    def find(self, identity: Identity) -> str | None:
        found = [self._of_whom[key] for key in (identity.name, *identity.granted) if key in self._of_whom]
        if self._of_roles:
            found += [self._of_roles[role] for role in identity.roles if role in self._of_roles]
        return min(found)[1] if found else None
