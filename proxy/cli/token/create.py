"""promgate token create NAME"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli import duration
from proxy.cli.token.saying import Terminal, answer, outlets_of
from proxy.desk.rotating import create
from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--kind", choices=[kind.value for kind in TokenKind], default=TokenKind.WRITE.value)
    parser.add_argument("--expires", type=duration, metavar="90d", help="how long it lives (default: no end)")
    parser.add_argument("--print", dest="printed", action="store_true", help="print it beside delivering it")


def act(args: argparse.Namespace, desk: Desk) -> int:
    outlets = outlets_of(Terminal(), is_wanted=args.printed)
    result = create(desk, args.name, kind=TokenKind(args.kind), lifetime_s=args.expires, outlets=outlets)
    return answer(result, desk, args.name)
