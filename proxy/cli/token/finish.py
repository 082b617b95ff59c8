"""promgate token finish NAME [--force]"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli.token.saying import answer
from proxy.desk.finishing import finish

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--force", action="store_true", help="end it although a sender still uses the old token, or may use it"
    )


def act(args: argparse.Namespace, desk: Desk) -> int:
    return answer(finish(desk, args.name, force=args.force), desk, args.name)
