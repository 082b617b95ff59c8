"""`promgate token ...`: works on the store itself, with the server up or down.

The change is committed first; then the server, if one runs, is asked to use it; only then the new token is printed,
alone on stdout, for the only time. So a token that was printed is one that is accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli import abandon_stdout, add_config_file, say
from proxy.config.read import ConfigError, load
from proxy.config.units import parse_duration
from proxy.stores.nudge import nudge, socket_beside
from proxy.stores.sqlite import open_store
from proxy.tokens import lifecycle
from proxy.tokens.lifecycle import Issued, Refusal
from proxy.tokens.ports import Conflict, StoreError
from proxy.tokens.token import TokenKind, ended_at, state_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.gate.snapshot import TokenRules
    from proxy.tokens.ports import TokenStore

#: A revocation is tried again when others change the name at the same time: it must win in the end.
_REVOKE_TRIES = 20


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with. `nudge` asks the server to use a generation (`stores.nudge`)."""

    store: TokenStore
    rules: TokenRules
    now: float
    random: Callable[[int], bytes]
    nudge: Callable[[int], int | None]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("token", help="create, list, show, rotate and revoke tokens", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    create = _action(actions, "create", "mint the first token of a name and print it")
    create.add_argument("--kind", choices=[kind.value for kind in TokenKind], default=TokenKind.WRITE.value)
    create.add_argument("--expires", type=_duration, metavar="90d", help="how long it lives (default: no end)")

    listing = _action(actions, "list", "one line for each name", named=False)
    listing.add_argument("--output", choices=["table", "json"], default="table")

    show = _action(actions, "show", "one line for each token of a name")
    show.add_argument("--output", choices=["table", "json"], default="table")

    rotate = _action(actions, "rotate", "mint the successor and print it; the old token ends after the overlap")
    rotate.add_argument("--overlap", type=_duration, metavar="24h", help="default: tokens.overlap_period of the config")

    revoke = _action(actions, "revoke", "end all tokens of a name, at once and for good")
    revoke.add_argument("--id", dest="token_id", metavar="ID", help="end only this one")


def run(args: argparse.Namespace) -> int:
    try:
        loaded = load(Path(args.config_file), open_files=False)
        path = loaded.settings.store
        if path is None:
            say(f"{args.config_file}: tokens.store is not set: there is no place to keep tokens")
            return 1
        with closing(open_store(path, make=args.action == "create")) as store:
            socket = socket_beside(path)
            desk = Desk(
                store,
                loaded.snapshot.token_rules,
                time.time(),
                os.urandom,
                lambda generation: nudge(socket, generation),
            )
            return act(args, desk)
    except ConfigError as error:
        say(error)
    except StoreError as error:
        say(error)
    return 1


def act(args: argparse.Namespace, desk: Desk) -> int:
    """Do what `args` (of `add_parser`) say; the exit code. Raises StoreError."""
    match args.action:
        case "create":
            return _create(args, desk)
        case "list":
            return _list(args, desk)
        case "show":
            return _show(args, desk)
        case "rotate":
            return _rotate(args, desk)
        case _:
            return _revoke(args, desk)


def _create(args: argparse.Namespace, desk: Desk) -> int:
    issued = lifecycle.create(
        args.name,
        desk.store.named(args.name),
        kind=TokenKind(args.kind),
        now=desk.now,
        random=desk.random,
        lifetime_s=args.expires,
    )
    return _hand_out(issued, desk)


def _rotate(args: argparse.Namespace, desk: Desk) -> int:
    overlap_s = desk.rules.overlap_s if args.overlap is None else args.overlap
    issued = lifecycle.rotate(
        args.name,
        desk.store.named(args.name),
        now=desk.now,
        random=desk.random,
        overlap_s=overlap_s,
        max_overlap_s=desk.rules.max_overlap_s,
    )
    advice = lifecycle.advice_on(overlap_s)
    if advice is not None and isinstance(issued, Issued):
        say(f"warning: {advice}")
    return _hand_out(issued, desk)


def _hand_out(issued: Issued | Refusal, desk: Desk) -> int:
    if isinstance(issued, Refusal):
        say(issued.text)
        return 1
    if sys.stdout is None:
        say("standard output is closed, and the token is printed nowhere else: nothing was done")
        return 1
    generation = desk.store.commit(issued.change)
    *ending, fresh = issued.change.put
    try:
        _tell_server(desk, generation)
        for token in ending:
            say(f"{token.name}: token {token.id} is accepted until {_time(ended_at(token))}")
        until = "" if fresh.expires_at is None else f", until {_time(fresh.expires_at)}"
        say(f"{fresh.name}: token {fresh.id} ({fresh.kind}) is current{until}")
    finally:
        # It is in use from the commit on: it must reach its owner whatever the server says, and despite a Ctrl-C.
        printed = _print_secret(issued)
    return 0 if printed else 1


def _print_secret(issued: Issued) -> bool:
    try:
        print(issued.secret.reveal(), flush=True)
    except OSError as error:
        abandon_stdout()
        fresh = issued.change.put[-1]
        say(
            f"token {fresh.id} could not be printed ({error.strerror}) and cannot be had again: mint another one with "
            f"`promgate token rotate {fresh.name}`, then `promgate token revoke {fresh.name} --id {fresh.id}`"
        )
        return False
    return True


def _revoke(args: argparse.Namespace, desk: Desk) -> int:
    for tries_left in reversed(range(_REVOKE_TRIES)):
        change = lifecycle.revoke(args.name, desk.store.named(args.name), now=desk.now, token_id=args.token_id)
        if isinstance(change, Refusal):
            say(change.text)
            break
        try:
            generation = desk.store.commit(change)
        except Conflict:
            if not tries_left:
                raise
        else:
            say(f"{args.name}: revoked {', '.join(token.id for token in change.put)}")
            return 0 if _tell_server(desk, generation) else 1
    return 1


def _tell_server(desk: Desk, generation: int) -> bool:
    """Wait until the server uses the change; whether none runs that does not."""
    try:
        if desk.nudge(generation) is None:
            say("no server is running on this store: it takes the change in when it starts")
    except StoreError as error:
        say(f"warning: the change is kept, but the running server does not use it yet: {error}")
        return False
    return True


def _list(args: argparse.Namespace, desk: Desk) -> int:
    summaries = [lifecycle.summarize(desk.store.named(name), desk.now) for name in desk.store.names()]
    _print_rows(
        args.output,
        [
            {
                "name": line.name,
                "kind": line.kind.value,
                "state": line.state.value,
                "id": line.id,
                "minted": _time(line.minted_at),
                "expires": _time(line.expires_at),
                "previous": line.previous,
                "previous_until": _time(line.previous_until),
            }
            for line in summaries
        ],
    )
    return 0


def _show(args: argparse.Namespace, desk: Desk) -> int:
    seen = desk.store.named(args.name)
    if not seen:
        say(lifecycle.unknown(args.name).text)
        return 1
    _print_rows(
        args.output,
        [
            {
                "id": token.id,
                "name": token.name,
                "kind": token.kind.value,
                "state": state_at(token, desk.now).value,
                "minted": _time(token.minted_at),
                "ends": _time(ended_at(token)),
                "expires": _time(token.expires_at),
                "revoked": _time(token.revoked_at),
            }
            for token in seen
        ],
    )
    return 0


def _print_rows(output: str, rows: Sequence[dict[str, str | int | None]]) -> None:
    """A JSON list, or a table whose columns are the same words in capitals."""
    if output == "json":
        print(json.dumps(rows, indent=2))
        return
    cells = [[("-" if value is None else str(value)) for value in row.values()] for row in rows]
    lines = [[key.upper() for row in rows[:1] for key in row], *cells]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines if rows else ():
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _time(at: float | None) -> str | None:
    """RFC 3339 in UTC, to the second."""
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, line: str, *, named: bool = True
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=line, description=line, allow_abbrev=False)
    if named:
        parser.add_argument("name", metavar="NAME")
    add_config_file(parser)
    return parser
