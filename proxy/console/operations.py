"""The admin API as one table: each use case of the desk, the path it has, and what is said to it. It holds no rule.

`run` blocks: `api` calls it in a thread. docs/openapi.json is made from this table (`python -m proxy.console.openapi`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.console.fields import Field
from proxy.desk import auditing, ending, finishing, leaked, listing, rotating, schedule, senders, verifying
from proxy.desk import status as standing
from proxy.desk.desk import Report
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.desk.desk import Desk
    from proxy.gate.guessers import Guessers
    from proxy.tokens.ports import Parcel

#: What a path may have for NAME and ID; whatever else is there is not found.
NAME = "[A-Za-z0-9._-]{1,64}"
ROTATION = "[A-Za-z0-9._:@-]{1,64}"
_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


class Receiver:
    """A sink: whoever gets this answer, once."""

    target = "api"

    def __init__(self) -> None:
        self.parcel: Parcel | None = None

    def deliver(self, parcel: Parcel) -> None:
        self.parcel = parcel


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked. `name` is from the path, `key` of the header Idempotency-Key, `said` the body."""

    name: str = ""
    key: str | None = None
    said: Mapping[str, Any] = field(default_factory=dict)
    limit: int = 0
    receiver: Receiver = field(default_factory=Receiver)

    @property
    def outlets(self) -> rotating.Outlets:
        if self.said.get("show"):
            return rotating.Outlets(extra=(self.receiver,))
        return rotating.Outlets(instead=(self.receiver,))


@dataclass(frozen=True, slots=True)
class Operation:
    """`mints`: its answer may hold a secret. `status` is that of its success.

    `look` instead of `run`: it needs no desk, and so no token store.
    """

    id: str
    method: str
    path: str
    summary: str
    run: Callable[[Desk, Call], Report | Refusal] | None
    fields: tuple[Field, ...] = ()
    status: int = 200
    mints: bool = False
    takes_key: bool = False
    takes_limit: bool = False
    look: Callable[[Guessers], Report] | None = None


def _create(desk: Desk, call: Call) -> Report | Refusal:
    kind = TokenKind(call.said.get("kind", TokenKind.WRITE.value))
    return rotating.create(
        desk, call.said["name"], kind=kind, lifetime_s=call.said.get("expires"), outlets=call.outlets
    )


def _rotate(desk: Desk, call: Call) -> Report | Refusal:
    written = call.said.get("id")
    if written is not None and call.key is not None and written != call.key:
        return Refusal("id and Idempotency-Key name two rotations: send one of them", Why.INVALID)
    is_fetched = call.name in desk.rules.renewing
    if is_fetched and call.said.get("show"):
        return Refusal(f"the token of {call.name} is for its sender alone, who fetches it: not shown", Why.INVALID)
    result = rotating.rotate(
        desk, call.name, rotation_id=written or call.key, overlap_s=call.said.get("overlap"), outlets=call.outlets
    )
    is_awaited = call.said.get("show") or not (desk.sinks(call.name) or is_fetched)
    if isinstance(result, Report) and is_awaited and call.receiver.parcel is None:
        return Refusal("that rotation is done; its token was handed out then and cannot be had again: rotate anew")
    return result


def _leaked(desk: Desk, call: Call) -> Report | Refusal:
    secret, digest = call.said.get("secret"), call.said.get("digest")
    if (secret is None) == (digest is None):
        return Refusal("send the leaked token as secret, or its SHA-256 as digest, and not both", Why.INVALID)
    if secret is not None:
        return leaked.revoke_shown(desk, secret.encode(errors="replace"), call.outlets)
    if _DIGEST.fullmatch(digest or "") is None:
        return Refusal("digest must be the 64 hexadecimal digits of a SHA-256", Why.INVALID)
    return leaked.revoke_leaked(desk, bytes.fromhex(digest or ""), call.outlets)


def _verify(desk: Desk, call: Call) -> Report | Refusal:
    secret = call.said.get("secret")
    if secret is None:
        return verifying.verify_delivered(desk, call.name)
    return verifying.verify_shown(desk, call.name, secret.encode(errors="replace"))


def _guessers(guessers: Guessers) -> Report:
    return Report(
        facts={
            "addresses": [{"address": each.who, "seconds": round(each.wait_s, 3)} for each in guessers.addresses],
            "users": [{"user": each.who, "seconds": round(each.wait_s, 3)} for each in guessers.users],
            "address_count": guessers.address_count,
            "user_count": guessers.user_count,
            "unknown_names": guessers.strange,
        }
    )


_SHOW = Field("show", "boolean", "Put the secret into this answer beside delivering it. Without targets it always is.")

OPERATIONS = (
    Operation("listTokens", "GET", "/tokens", "One row for each name.", lambda desk, _: listing.list_names(desk)),
    Operation(
        "createToken", "POST", "/tokens", "Mint the first token of a name and hand it out.", _create,
        (
            Field("name", "string", "Whose it is.", is_required=True, most=64, pattern=NAME),
            Field("kind", "string", "What it is for.", choices=("write", "reader")),
            Field("expires", "duration", "How long it lives; without it, it has no end."),
            _SHOW,
        ),
        status=201, mints=True,
    ),
    Operation(
        "showToken", "GET", "/tokens/{name}", "One row for each token of a name, oldest first.",
        lambda desk, call: listing.show(desk, call.name),
    ),
    Operation(
        "tokenStatus", "GET", "/tokens/{name}/status", "How far the rotation of a name is, and what keeps it.",
        lambda desk, call: standing.status(desk, call.name),
    ),
    Operation(
        "listSenders", "GET", "/tokens/{name}/senders", "Who was seen with which token of a name, the last one first.",
        lambda desk, call: senders.list_senders(desk, call.name),
    ),
    Operation(
        "rotateToken", "POST", "/tokens/{name}/rotate",
        "Replace the token of a name; the old one ends after the overlap. With the id of an open rotation: go on.",
        _rotate,
        (
            Field("id", "string", "A name for this rotation: as Idempotency-Key.", most=64, pattern=ROTATION),
            Field("overlap", "duration", "How long the old token is taken; without it, as configured."),
            _SHOW,
        ),
        mints=True, takes_key=True,
    ),
    Operation(
        "finishOverlap", "POST", "/tokens/{name}/finish",
        "End the overlap of a name now: when all its senders have moved, or by force.",
        lambda desk, call: finishing.finish(desk, call.name, force=bool(call.said.get("force"))),
        (Field("force", "boolean", "Whatever the ledger says: who has not moved is held, and then refused."),),
    ),
    Operation(
        "verifyToken", "POST", "/tokens/{name}/verify",
        "Prove that a token of a name does its work, by a push and a query through the public listener.",
        _verify,
        (Field("secret", "string", "The token; without it, what its first file target holds.", most=4096),),
    ),
    Operation(
        "rollBackToken", "POST", "/tokens/{name}/rollback",
        "Make the token before current again, or give up a rotation that has not ended.",
        lambda desk, call: ending.roll_back(desk, call.name),
    ),
    Operation(
        "revokeToken", "POST", "/tokens/{name}/revoke", "End all tokens of a name, or one, at once and for good.",
        lambda desk, call: ending.revoke(desk, call.name, token_id=call.said.get("token")),
        (Field("token", "string", "Only the token with this id.", most=64),),
    ),
    Operation(
        "revokeLeaked", "POST", "/leaked", "End a token that strangers know, replace it, and tell who has used it.",
        _leaked,
        (
            Field("secret", "string", "The leaked token, whole.", most=4096),
            Field("digest", "string", "Its SHA-256 in hexadecimal digits, instead.", most=64),
            _SHOW,
        ),
        mints=True,
    ),
    Operation(
        "listRotations", "GET", "/rotations", "Rotations of all names, newest first, and all that are open.",
        lambda desk, call: standing.rotations(desk, call.limit),
        takes_limit=True,
    ),
    Operation(
        "showRotation", "GET", "/rotations/{rotation}", "One rotation, with its receipts.",
        lambda desk, call: standing.rotation(desk, call.name),
    ),
    Operation(
        "listDue", "GET", "/due", "When the names with a schedule are rotated next, the earliest first.",
        lambda desk, _: schedule.list_due(desk),
    ),
    Operation(
        "listGuessers", "GET", "/guessers",
        "Who is refused for too many guesses just now, the longest wait first. Names of no user are only counted.",
        None, takes_limit=True, look=_guessers,
    ),
    Operation(
        "rotateDue", "POST", "/due", "Take up what was left open, then rotate the name that is due longest.",
        lambda desk, call: schedule.rotate_due(desk, all_at_once=bool(call.said.get("all"))),
        (Field("all", "boolean", "Rotate all that are due, at once."),),
    ),
    Operation(
        "listAudit", "GET", "/audit", "The last records of the audit, the newest first.",
        lambda desk, call: auditing.list_audit(desk, call.limit),
        takes_limit=True,
    ),
)  # fmt: skip
