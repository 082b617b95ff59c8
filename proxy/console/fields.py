"""What a request to the admin API may say, told once: reading a body and describing it come from the same table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.config.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: Roughly: units come large before small, each once.
_DURATION = "^([0-9]+(ms|s|m|h|d|w|y))+$"


class Field(NamedTuple):
    """A member of a request's JSON object. A duration is a string such as `24h`.

    `pattern` only describes: the rules judge it, and say more than that it does not match.
    """

    name: str
    kind: str  # string, boolean or duration
    doc: str
    is_required: bool = False
    choices: tuple[str, ...] = ()
    most: int = 256
    pattern: str = ""

    def schema(self) -> dict[str, Any]:
        """As OpenAPI 3.1 has it (JSON Schema 2020-12)."""
        told: dict[str, Any] = {"description": self.doc}
        if self.kind == "boolean":
            return told | {"type": "boolean", "default": False}
        if self.choices:
            return told | {"type": "string", "enum": list(self.choices), "default": self.choices[0]}
        if self.kind == "duration":
            return told | {"type": "string", "pattern": _DURATION, "maxLength": self.most, "examples": ["24h"]}
        shape = {"pattern": f"^{self.pattern}$"} if self.pattern else {}
        return told | {"type": "string", "minLength": 1, "maxLength": self.most, **shape}


def read_body(raw: bytes, fields: Sequence[Field]) -> dict[str, Any]:
    """The values by name, durations in seconds. ValueError says what is wrong, and repeats nothing of a value."""
    try:
        given = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None
    if not isinstance(given, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - whoever sent it is wrong, not the caller
    known = {field.name: field for field in fields}
    unknown = sorted(set(given) - set(known))
    if unknown:
        taken = ", ".join(known) or "nothing"
        raise ValueError(f"{unknown[0][:80]!a} is not taken here; taken are: {taken}")
    for field in fields:
        if field.is_required and field.name not in given:
            raise ValueError(f"{field.name} is missing: {field.doc}")
    return {name: _value(known[name], value) for name, value in given.items()}


def _value(field: Field, value: object) -> Any:
    if field.kind == "boolean":
        if not isinstance(value, bool):
            raise ValueError(f"{field.name} must be true or false")
        return value
    if not isinstance(value, str) or not value or len(value) > field.most:
        raise ValueError(f"{field.name} must be a string of 1 to {field.most} characters")
    if field.choices and value not in field.choices:
        raise ValueError(f"{field.name} must be one of {', '.join(field.choices)}")
    if field.kind == "duration":
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ValueError(f"{field.name}: {error}") from None
    return value


def read_limit(query: Mapping[str, str], most: int, default: int) -> int:
    """`limit` of a query. ValueError as above."""
    unknown = sorted(set(query) - {"limit"})
    if unknown:
        raise ValueError(f"{unknown[0][:80]!a} is not taken in the query; taken is: limit")
    written = query.get("limit", str(default))
    if not (written.isascii() and written.isdecimal() and len(written) < 6 and 1 <= int(written) <= most):
        raise ValueError(f"limit must be a whole number from 1 to {most}")
    return int(written)
