"""The shapes of what the admin API answers, for its description. tests/console/ holds them against the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxy.console.operations import Operation

_STATES = ["pending", "current", "previous", "retired", "revoked"]
_TEXT: dict[str, Any] = {"type": "string"}
_MAYBE: dict[str, Any] = {"type": ["string", "null"]}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_MAYBE_TIME: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}
_STATE: dict[str, Any] = {"type": "string", "enum": _STATES}
_SOURCE: dict[str, Any] = {
    "type": "string",
    "enum": ["store", "configuration"],
    "description": "Where it stands; those of the configuration (`write_tokens`) no request changes.",
}
_KIND: dict[str, Any] = {"type": "string", "enum": ["write", "reader"]}


def _object(**members: dict[str, Any]) -> dict[str, Any]:
    """All members are always there; more may be added by a later version."""
    return {"type": "object", "properties": members, "required": list(members)}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


def _map(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": item}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_CHANGED = {
    "notes": {**_list(_TEXT), "description": "What was done, for a person."},
    "failure": {**_MAYBE, "description": "The change stands, but this went wrong after it."},
}
_SECRET = {"secret": {"type": "string", "description": "The token, for the only time; where it was to be shown."}}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Problem": _object(title=_TEXT, status={"type": "integer"}, detail=_TEXT),
    "Name": _object(
        name=_TEXT, kind=_KIND, state=_STATE, id=_TEXT, minted=_MAYBE_TIME, expires=_MAYBE_TIME,
        previous={**_NUMBER, "description": "Older tokens that are still taken."}, previous_until=_MAYBE_TIME,
        source=_SOURCE,
    ),
    "Token": _object(
        id=_TEXT, name=_TEXT, kind=_KIND, state=_STATE, minted=_MAYBE_TIME, ends=_MAYBE_TIME, expires=_MAYBE_TIME,
        revoked=_MAYBE_TIME, source=_SOURCE,
    ),
    "Rotation": _object(
        id=_TEXT, name=_TEXT, phase=_TEXT, token=_MAYBE, started=_TIME, tries=_NUMBER, proven=_MAYBE_TIME,
        receipts=_map(_TIME), missing=_list(_TEXT), current=_MAYBE_TIME, failed=_MAYBE_TIME, failure=_MAYBE,
        driven_by=_MAYBE, renews_itself={"type": "boolean"},
    ),
    "Status": _object(
        name=_TEXT, kind=_KIND, current=_MAYBE, since=_MAYBE_TIME, expires=_MAYBE_TIME,
        accepted=_list(_object(id=_TEXT, state=_STATE, until=_MAYBE_TIME, until_at_most=_MAYBE_TIME)),
        rotation={"anyOf": [_ref("Rotation"), {"type": "null"}]}, notes=_list(_TEXT), due=_MAYBE_TIME,
        left_behind={**_map(_TEXT), "description": "Targets with a token of a rotation that did not end."},
        outdated={**_map(_TEXT), "description": "Targets whose token is not accepted any more."},
    ),
    "Judgement": _object(
        verdict=_TEXT, reason=_TEXT, senders=_NUMBER, moved=_NUMBER, stragglers=_list({"type": "object"}),
    ),
    "Sender": _object(
        sender=_TEXT, address=_TEXT, agent=_MAYBE, token=_TEXT, kind=_TEXT, first_seen=_TIME, last_seen=_TIME,
        requests=_NUMBER,
    ),
    "Rotated": {
        **_object(
            name=_TEXT, rotation=_TEXT, token=_TEXT, current_at=_MAYBE_TIME, previous=_map(_MAYBE_TIME),
            receipts=_map(_TIME),
        ),
        "required": ["name", "rotation"],  # of one that waits for its sender there is no more
    },
    "Due": _object(name=_TEXT, at=_TIME, overdue={"type": "boolean"}),
    "Record": {
        **_object(
            seq=_NUMBER, at=_TIME, op=_TEXT, identity=_TEXT, way=_TEXT, address=_TEXT, action=_TEXT, name=_TEXT,
            outcome=_TEXT, changes=_list(_map(_TEXT)), of=_NUMBER, generation=_NUMBER, text=_TEXT, prev=_TEXT,
        ),
        "required": ["seq", "at", "action", "outcome", "prev"],
    },
}  # fmt: skip

_ANSWERS: dict[str, dict[str, Any]] = {
    "listTokens": _object(tokens=_list(_ref("Name"))),
    "createToken": _ref("Rotated"),
    "showToken": _object(tokens=_list(_ref("Token"))),
    "tokenStatus": {"allOf": [_ref("Status"), _ref("Judgement")]},
    "rotateToken": _ref("Rotated"),
    "listSenders": _object(senders=_list(_ref("Sender")), trouble=_MAYBE),
    "finishOverlap": {"allOf": [_object(name=_TEXT, ended=_list(_TEXT)), _ref("Judgement")]},
    "verifyToken": _object(name=_TEXT, token=_TEXT, state=_STATE, ends=_MAYBE),
    "rollBackToken": _object(name=_TEXT, tokens=_map(_STATE), holders=_list(_TEXT)),
    "revokeToken": _object(name=_TEXT, revoked=_list(_TEXT)),
    "revokeLeaked": _object(name=_TEXT, leaked=_TEXT, used_by=_list({"type": "object"})),
    "listRotations": _object(rotations=_list(_ref("Rotation"))),
    "showRotation": _ref("Rotation"),
    "listGuessers": _object(
        addresses=_list(_object(address=_TEXT, seconds={"type": "number"})),
        users=_list(_object(user=_TEXT, seconds={"type": "number"})),
        address_count=_NUMBER,
        user_count=_NUMBER,
        unknown_names=_NUMBER,
    ),
    "listDue": _object(due=_list(_ref("Due"))),
    "listAudit": _object(records=_list(_ref("Record"))),
    "rotateDue": _object(rotated=_list(_ref("Rotated")), waiting=_list(_TEXT)),
}


def schema_of(operation: Operation) -> dict[str, Any]:
    """What its success answers."""
    shape = _ANSWERS[operation.id]
    if operation.method != "POST":
        return shape
    more = _object(**_CHANGED)
    if operation.mints:
        more["properties"] = {**more["properties"], **_SECRET}
    return {"allOf": [shape, more]}
