"""promgate token revoke NAME, or --leaked with the leaked string on stdin"""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from proxy.cli import say
from proxy.cli.token.saying import Terminal, answer, find_misplaced, outlets_of
from proxy.desk.ending import revoke
from proxy.desk.leaked import revoke_leaked, revoke_shown

if TYPE_CHECKING:
    from proxy.desk.desk import Desk

#: More than any token; a pasted log file is a mistake.
_MAX_SHOWN = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("name", metavar="NAME", nargs="?")
    chosen.add_argument(
        "--leaked", action="store_true", help="read a leaked token from stdin: end it, replace it, tell who used it"
    )
    chosen.add_argument("--digest", type=_digest, metavar="SHA256", help="the same, by the SHA-256 of the leaked token")
    parser.add_argument("--id", dest="token_id", metavar="ID", help="end only this token of NAME")
    parser.add_argument("--print", dest="printed", action="store_true", help="print the successor beside delivering it")


def act(args: argparse.Namespace, desk: Desk) -> int:
    is_leak = args.name is None
    misplaced = {"--id": "token_id"} if is_leak else {"--print": "printed"}
    if find_misplaced(args, misplaced, "is for NAME alone" if is_leak else "is for --leaked and --digest alone"):
        return 2
    if args.name is not None:
        return answer(revoke(desk, args.name, token_id=args.token_id), desk, args.name)
    shown = sys.stdin.buffer.read(_MAX_SHOWN + 1) if args.leaked else b""
    if len(shown) > _MAX_SHOWN:
        say("that is longer than a token can be: give the leaked token alone, on one line")
        return 1
    outlets = outlets_of(Terminal(), is_wanted=args.printed)
    if args.leaked:
        return answer(revoke_shown(desk, shown, outlets), desk)
    return answer(revoke_leaked(desk, args.digest, outlets), desk)


def _digest(text: str) -> bytes:
    if re.fullmatch(r"[0-9a-fA-F]{64}", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError("a SHA-256 is 64 hexadecimal digits")
    return bytes.fromhex(text)
