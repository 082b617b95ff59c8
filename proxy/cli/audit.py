"""promgate audit verify: exit 0 when the record is whole, 1 with all that is wrong with it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.audit.operation import open_trail
from proxy.audit.verify import Noted, verify
from proxy.cli import add_config_file, say
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from proxy.audit.trail import Trail


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("audit", help="the record of changes", allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    line = "find what was deleted, edited, moved or cut off; the files that it was renamed to are read, too"
    action = actions.add_parser("verify", help=line, description=line, allow_abbrev=False)
    action.add_argument(
        "--head", type=_noted, metavar="SEQ:HASH", help="as an earlier run has printed it: it must be there still"
    )
    add_config_file(action)


def run(args: argparse.Namespace) -> int:
    from proxy.config.read import ConfigError, load  # noqa: PLC0415

    try:
        settings = load(Path(args.config_file), open_files=False).settings
        trail = open_trail(settings.audit, settings.store)
        if trail is None:
            say(f"{args.config_file}: audit.file is not set: nothing is recorded")
            return 1
        return _judge(trail, args.head)
    except (ConfigError, StoreError) as error:
        say(error)
        return 1


def _judge(trail: Trail, noted: Noted | None) -> int:
    verdict = verify(trail, noted)
    for text in verdict.notes:
        say(text)
    for text in verdict.problems:
        say(f"PROBLEM: {text}")
    if verdict.problems:
        return 1
    head = "" if verdict.last is None else f", head {verdict.last.seq}:{verdict.last.hash}"
    print(f"{trail.file}: {verdict.records} records, whole{head}")
    return 0


def _noted(text: str) -> Noted:
    found = re.fullmatch(r"([1-9][0-9]{0,17}):([0-9a-f]{64})", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError("SEQ:HASH is wanted, a number and 64 hexadecimal digits")
    return Noted(int(found[1]), found[2])
