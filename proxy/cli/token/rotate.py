"""promgate token rotate NAME"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli import duration, say
from proxy.cli.token.saying import Terminal, answer, find_misplaced, outlets_of
from proxy.desk.desk import Report
from proxy.desk.rotating import rotate
from proxy.desk.schedule import plan_due, rotate_due

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk

_OF_DUE = {"--all": "all_at_once", "--dry-run": "dry_run"}
_OF_A_NAME = {"--id": "rotation_id", "--overlap": "overlap", "--print": "printed"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("name", metavar="NAME", nargs="?")
    chosen.add_argument("--due", action="store_true", help="take up what was left open, rotate what is due: for cron")
    parser.add_argument("--all", dest="all_at_once", action="store_true", help="with --due: all that are due, at once")
    parser.add_argument("--dry-run", action="store_true", help="with --due: say what would be done, and do nothing")
    parser.add_argument("--id", dest="rotation_id", metavar="ID", help="a name for this rotation; again: take it up")
    parser.add_argument("--overlap", type=duration, metavar="24h", help="default: tokens.overlap_period of the config")
    parser.add_argument("--print", dest="printed", action="store_true", help="print the token beside delivering it")


def act(args: argparse.Namespace, desk: Desk) -> int:
    misplaced = (_OF_A_NAME, "is for NAME alone") if args.due else (_OF_DUE, "is for --due alone")
    if find_misplaced(args, *misplaced):
        return 2
    if args.dry_run:
        return answer(plan_due(desk, all_at_once=args.all_at_once))
    if args.due:
        return answer(rotate_due(desk, all_at_once=args.all_at_once), desk)
    if args.printed and args.name in desk.rules.renewing:
        say(f"the token of {args.name} is for its sender alone, who fetches it: it cannot be printed")
        return 1
    terminal = Terminal()
    outlets = outlets_of(terminal, is_wanted=args.printed)
    result = rotate(desk, args.name, rotation_id=args.rotation_id, overlap_s=args.overlap, outlets=outlets)
    code = answer(result, desk, args.name)
    is_awaited = args.printed or not (desk.sinks(args.name) or args.name in desk.rules.renewing)
    if isinstance(result, Report) and is_awaited and not terminal.has_printed:
        # `rotate agent --id X > agent.token.new && mv ...` must not put an empty file in place.
        say("its token was handed out then and cannot be had again: nothing is printed")
        return 1
    return code
