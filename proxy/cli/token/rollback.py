"""promgate token rollback NAME"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli.token.saying import answer
from proxy.desk.ending import roll_back

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def act(args: argparse.Namespace, desk: Desk) -> int:
    return answer(roll_back(desk, args.name), desk, args.name)
