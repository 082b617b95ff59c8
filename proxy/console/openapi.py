"""The admin API, described in OpenAPI 3.1: what `/-/api/v1/openapi.json` answers, and docs/openapi.json holds.

`python -m proxy.console.openapi > docs/openapi.json`; a test holds page and table together.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from proxy import __version__
from proxy.console.answers import SCHEMAS, schema_of
from proxy.console.operations import NAME, OPERATIONS, ROTATION
from proxy.console.problems import PROBLEM

if TYPE_CHECKING:
    from proxy.console.operations import Operation

_ABOUT = """\
The life of promgate's tokens, for the role `admin`. It is what `promgate token` does, by the same code. A secret is in
an answer once and nowhere else; no answer may be stored. What changes something takes JSON (`Content-Type:
application/json`) and refuses what a browser sends for a page of another site. What goes wrong is told as a problem
(RFC 9457), whose `detail` says what to do."""
_WHY = {
    "400": "What was said cannot be taken.",
    "401": "No valid credential.",
    "403": "This identity may not, or a page of another site asked.",
    "404": "There is no such name, token or rotation; or no token store.",
    "409": "Something stands in the way: another rotation, or a token that is there already.",
    "413": "The body is too large.",
    "415": "A body that is not JSON.",
    "421": "This name may not be used to ask: see console.hosts.",
    "429": "Too many requests.",
    "502": "The canary or a target failed: every token stays as it was. The same rotation can be taken up again.",
    "503": "Not now: see Retry-After.",
}
_BY_GATE = ("401", "403", "413", "421", "429")


def describe(prefix: str = "/-/api/v1") -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "promgate", "version": __version__, "description": _ABOUT, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": prefix}],
        "security": [{"basic": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer", "description": "A reader token, or a JWT."},
            },
            "schemas": SCHEMAS,
            "responses": {f"Problem{why}": _problem(why) for why in _WHY},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    whys = ["400", "404", "409", "503"]
    if operation.method == "POST":
        whys += ["415", "502"]
    answers: dict[str, Any] = {
        str(operation.status): {
            "description": "Done." if operation.method == "POST" else "What there is.",
            "content": {"application/json": {"schema": schema_of(operation)}},
        }
    }
    answers |= {why: {"$ref": f"#/components/responses/Problem{why}"} for why in sorted({*whys, *_BY_GATE})}
    told: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary, "responses": answers}
    parameters = _parameters(operation)
    if parameters:
        told["parameters"] = parameters
    if operation.method == "POST":
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": _body(operation)}}}
    return told


def _problem(why: str) -> dict[str, Any]:
    content: dict[str, Any] = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if why in {*_BY_GATE, "400", "404", "502", "503"}:
        content["text/plain"] = {"schema": {"type": "string"}}  # said by the gate or the relay
    return {"description": _WHY[why], "content": content}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    for name, pattern in (("name", NAME), ("rotation", ROTATION)):
        if f"{{{name}}}" in operation.path:
            told.append(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{pattern}$"}}
            )
    if operation.takes_key:
        told.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A name for this rotation: sent again with the same one, it ends with one successor.",
                "schema": {"type": "string", "pattern": f"^{ROTATION}$"},
            }
        )
    if operation.takes_limit:
        limit = {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
        told.append({"name": "limit", "in": "query", "schema": limit})
    return told


def _body(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: field.schema() for field in operation.fields},
        "additionalProperties": False,
    }
    required = [field.name for field in operation.fields if field.is_required]
    return told | {"required": required} if required else told


if __name__ == "__main__":
    sys.stdout.write(json.dumps(describe(), indent=2) + "\n")
