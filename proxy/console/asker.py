"""Who is asking, as the gate says it: the control plane checks no credential, and is reached through the gate alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping


class Asker(NamedTuple):
    """`address` is the client's, as limits and the access log see it. `session` is the digest of a person's, in hex.

    `certificate`: its name, where one was shown beside the credential.
    """

    identity: str
    way: str
    roles: frozenset[str]
    token_id: str
    address: str
    session: str = ""
    certificate: str = ""


def read_asker(headers: Mapping[str, str]) -> Asker:
    """From the fields that the gate adds (`gate.telling`, `gate.forwarded`) and takes away from everybody else."""
    roles = headers.get("X-Promgate-Roles", "")
    return Asker(
        unquote(headers.get("X-Promgate-Identity", "")),
        headers.get("X-Promgate-Way", ""),
        frozenset(map(unquote, roles.split(","))) if roles else frozenset(),
        headers.get("X-Promgate-Token-Id", ""),
        headers.get("X-Forwarded-For", "").partition(",")[0],
        headers.get("X-Promgate-Session", ""),
        unquote(headers.get("X-Promgate-Certificate", "")),
    )
