"""Secrets that a test used, in every spelling, and whether any of what came out of a program gives one away."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def needles(secret: str) -> Iterator[bytes]:
    """Every spelling in which the secret is given away. The public part of a token (pgw_ID) is none."""
    told = secret.split("_", 2)[2] if secret.startswith("pg") else secret
    parts = told.split(".")[1:] if told.startswith("ey") else [told]  # all JWTs of an issuer begin alike
    for part in parts:
        half = len(part) // 2
        yield from (part.encode(), part[:half].encode(), part[half:].encode())
        for offset in range(3):
            yield base64.b64encode(b"\0" * offset + part.encode())[4:-4]


class Output(NamedTuple):
    """Something that came out, and where."""

    where: str
    text: bytes


def given_away(known: Mapping[str, str], outputs: Iterable[Output]) -> set[tuple[str, str]]:
    """Which secret (by what it is called) can be read where."""
    spelt = [(what, needle) for what, secret in known.items() for needle in needles(secret)]
    return {(what, one.where) for one in outputs for what, needle in spelt if needle in one.text}
