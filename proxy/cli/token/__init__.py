"""`promgate token ...`: one file per command, each with `add_arguments(parser)` and `act(args, desk) -> exit code`.

Works on the store itself, with the server up or down: the change is committed, each server that runs is asked to use
it, and only then is the new token delivered, or printed, alone on stdout, for the only time.
"""

from __future__ import annotations

import os
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.audit.operation import Operation, asked_here, open_trail
from proxy.cli import add_config_file, say
from proxy.clock import Clock
from proxy.delivery.sinks import prover_of, sinks_of
from proxy.desk.desk import Desk
from proxy.desk.ledger_of import LedgerOf
from proxy.desk.owner import is_gone, name_of_this_process
from proxy.stores.nudge import ask_for_ledger, ask_listen, ask_time, nudge
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    import argparse

    from proxy.config.read import Loaded
    from proxy.stores.sqlite import SqliteStore
    from proxy.stores.unmade import UnmadeStore

#: Command -> its line in `promgate token --help`.
_COMMANDS = {
    "create": "mint the first token of a name and hand it out",
    "list": "one line for each name",
    "show": "one line for each token of a name",
    "status": "how far a rotation is, who still uses the old token, and whether it may end: SAFE or WAIT",
    "rotate": "replace the token of a name; the old one ends after the overlap",
    "finish": "end the overlap now, if no sender needs it any more",
    "rollback": "make the previous token current again, or give up a rotation that has not ended",
    "revoke": "end tokens at once and for good",
    "verify": "prove that the token of a name does its work, by a canary",
    "digest": "what `write_tokens` in the configuration holds of a token: of one on stdin, or of a new one",
    "renew": "on the sender's machine: trade the token in a file for its successor",
}
#: What needs neither configuration nor store.
_ALONE = {"digest", "renew"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("token", help="the life of tokens, from create to revoke", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, line in _COMMANDS.items():
        action = actions.add_parser(name, help=line, description=line, allow_abbrev=False)
        _module(name).add_arguments(action)
        if name not in _ALONE:
            add_config_file(action)


def run(args: argparse.Namespace) -> int:
    if args.action in _ALONE:
        return int(_module(args.action).run(args))
    # Not paid for, and not needed, on a sender's machine.
    from proxy.config.read import ConfigError, load  # noqa: PLC0415
    from proxy.stores.sqlite import open_store  # noqa: PLC0415
    from proxy.stores.unmade import UnmadeStore  # noqa: PLC0415

    try:
        loaded = load(Path(args.config_file), open_files=False)
        path = loaded.settings.store
        if path is None:
            return _act_without_store(args, loaded)
        is_first = args.action == "create" and not path.exists()
        with closing(UnmadeStore(path) if is_first else open_store(path, make=False)) as store:
            return act(args, desk_of(_where_it_listens(loaded, path), store, args.action))
    except ConfigError as error:
        say(error)
    except StoreError as error:
        say(error)
    return 1


def _act_without_store(args: argparse.Namespace, loaded: Loaded) -> int:
    """What can be said of the tokens that the configuration lists; a command that would change one is told no."""
    rules = loaded.snapshot.token_rules
    if not rules.configured or args.action == "create":
        hint = "; `promgate token digest --new` mints one for write_tokens" if rules.configured else ""
        say(f"{args.config_file}: tokens.store is not set: there is no place to keep tokens{hint}")
        return 1
    from proxy.stores.memory import MemoryStore  # noqa: PLC0415 - see `run`

    desk = Desk(
        store=MemoryStore(),
        rules=rules,
        clock=Clock().now,
        random=os.urandom,
        apply=lambda _: None,
        sinks=lambda name: sinks_of(rules, name),
        prover=lambda _: prover_of(rules),
    )
    return act(args, desk)


def _where_it_listens(loaded: Loaded, store: Path) -> Loaded:
    """With the addresses of the running server, which its command line may have given it: there a canary goes."""
    if loaded.snapshot.token_rules.canary is None:
        return loaded
    from proxy.config.read import load  # noqa: PLC0415 - see `run`
    from proxy.config.units import parse_listen  # noqa: PLC0415

    said = tuple(map(parse_listen, ask_listen(store)))
    if not said or said == loaded.settings.listen:
        return loaded
    return load(loaded.settings.path, open_files=False, listen=said)


def act(args: argparse.Namespace, desk: Desk) -> int:
    """Do what `args` (of `add_parser`) say; the exit code. Raises StoreError."""
    return int(_module(args.action).act(args, desk))


def desk_of(loaded: Loaded, store: SqliteStore | UnmadeStore, action: str) -> Desk:
    """The use cases on this store, from a command of their own."""
    rules = loaded.snapshot.token_rules
    trail = open_trail(loaded.settings.audit, store.path)
    audit = None if trail is None else Operation(trail, asked_here(action))
    return Desk(
        store=store if audit is None else audit.watch(store),
        rules=rules,
        # The server judges the deadlines that we set: a clock that was set since it started must not come between us.
        clock=Clock(ask_time(store.path)).now,
        random=os.urandom,
        apply=lambda generation: nudge(store.path, generation),
        owner=name_of_this_process(),
        is_gone=is_gone,
        sinks=lambda name: sinks_of(rules, name),
        prover=lambda _: prover_of(rules),
        sightings=LedgerOf(store.path, lambda: ask_for_ledger(store.path)),
        audit=audit,
    )


def _module(action: str) -> Any:
    return import_module(f"{__name__}.{action}")
