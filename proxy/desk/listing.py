"""What there is: the names, and the tokens of one. Rows for a table and for JSON alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.desk.configured import configured
from proxy.desk.desk import Report
from proxy.desk.words import when
from proxy.tokens import lifecycle
from proxy.tokens.configured import is_configured
from proxy.tokens.token import ended_at, state_at

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.lifecycle import Refusal


def list_names(desk: Desk) -> Report:
    """One row for each name, in `tokens`."""
    now = desk.clock()
    lines = [lifecycle.summarize(seen, now) for name in desk.store.names() if (seen := desk.store.named(name))]
    lines += lifecycle.summarize_all(desk.rules.configured, now)
    rows = [
        {
            "name": line.name,
            "kind": line.kind.value,
            "state": line.state.value,
            "id": line.id,
            "minted": when(line.minted_at or None),
            "expires": when(line.expires_at),
            "previous": line.previous,
            "previous_until": when(line.previous_until),
            "source": _source(line.id),
        }
        for line in sorted(lines, key=lambda line: line.name)
    ]
    return Report(facts={"tokens": rows})


def show(desk: Desk, name: str) -> Report | Refusal:
    """One row for each token of a name, in `tokens`, oldest first; those of the configuration last, in its order."""
    seen, now = (*desk.store.named(name), *configured(desk, name)), desk.clock()
    if not seen:
        return lifecycle.unknown(name)
    rows = [
        {
            "id": token.id,
            "name": token.name,
            "kind": token.kind.value,
            "state": state_at(token, now).value,
            "minted": when(token.minted_at or None),
            "ends": when(ended_at(token)),
            "expires": when(token.expires_at),
            "revoked": when(token.revoked_at),
            "source": _source(token.id),
        }
        for token in seen
    ]
    return Report(facts={"tokens": rows})


def _source(token_id: str) -> str:
    return "configuration" if is_configured(token_id) else "store"
