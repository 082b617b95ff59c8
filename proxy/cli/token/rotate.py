"""promgate token rotate NAME"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli import duration, say
from proxy.cli.token.saying import Terminal, answer, outlets_of
from proxy.desk.desk import Report
from proxy.desk.rotating import rotate
from proxy.desk.schedule import rotate_due

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("name", metavar="NAME", nargs="?")
    chosen.add_argument("--due", action="store_true", help="take up what was left open, rotate what is due: for cron")
    parser.add_argument("--all", dest="all_at_once", action="store_true", help="with --due: all that are due, at once")
    parser.add_argument("--id", dest="rotation_id", metavar="ID", help="a name for this rotation; again: take it up")
    parser.add_argument("--overlap", type=duration, metavar="24h", help="default: tokens.overlap_period of the config")
    parser.add_argument("--print", dest="printed", action="store_true", help="print the token beside delivering it")


def act(args: argparse.Namespace, desk: Desk) -> int:
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
