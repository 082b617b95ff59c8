"""promgate token status NAME"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli.token.saying import add_output, answer, print_json
from proxy.desk.status import status
from proxy.tokens.lifecycle import Refusal

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    add_output(parser)


def act(args: argparse.Namespace, desk: Desk) -> int:
    result = status(desk, args.name)
    if isinstance(result, Refusal):
        return answer(result)
    if args.output == "json":
        print_json(result.facts)
    else:
        for line in result.notes:
            print(line)
    return 0
