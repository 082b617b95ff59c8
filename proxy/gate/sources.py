"""From which networks somebody may come: compiled at load. Where a client is, and who it is, is not decided here.

Two things are told apart. Whoever is named (a token, a user, a group) is taken from their networks and from nowhere
else. A role that is named counts within its networks: whoever has others as well keeps these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.gate.tenants import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.gate.addresses import Addresses
    from proxy.gate.decision import Identity


class Sources:
    """`written` maps an identity, another key of `Snapshot.roles`, or ROLE and a role to its networks."""

    __slots__ = ("_of_roles", "_of_whom", "written")

    def __init__(self, written: Mapping[str, Addresses]) -> None:
        self.written = written
        self._of_roles = {key[len(ROLE) :]: each for key, each in written.items() if key.startswith(ROLE)}
        self._of_whom = {key: each for key, each in written.items() if not key.startswith(ROLE)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sources) and self.written == other.written

    def __hash__(self) -> int:
        return hash(frozenset(self.written))

    def confine(self, identity: Identity, ip: str) -> Identity | None:
        """Who it is when they come from `ip`: with the roles that count there; None: nobody. All that fit must."""
        if self._of_whom:
            for key in (identity.name, *identity.granted):
                addresses = self._of_whom.get(key)
                if addresses is not None and not addresses.admit(ip):
                    return None
        roles = identity.roles
        lost = [role for role, addresses in self._of_roles.items() if role in roles and not addresses.admit(ip)]
        return replace(identity, roles=roles.difference(lost)) if lost else identity

    def of(self, identity: Identity) -> Iterator[tuple[str, Addresses]]:
        """What confines it: the key, and the networks."""
        for key in dict.fromkeys((identity.name, *identity.granted)):
            if key in self._of_whom:
                yield key, self._of_whom[key]
        for role in sorted(identity.roles & self._of_roles.keys()):
            yield f"{ROLE}{role}", self._of_roles[role]
