"""promgate token show NAME"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli.token.saying import add_output, answer, print_rows
from proxy.desk.listing import show
from proxy.tokens.lifecycle import Refusal

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    add_output(parser)


def act(args: argparse.Namespace, desk: Desk) -> int:
    result = show(desk, args.name)
    if isinstance(result, Refusal):
        return answer(result)
    print_rows(args.output, result.facts["tokens"])
    return 0
