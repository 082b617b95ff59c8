"""promgate token list"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.cli.token.saying import add_output as add_arguments
from proxy.cli.token.saying import print_rows
from proxy.desk.listing import list_names

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk

__all__ = ["act", "add_arguments"]


def act(args: argparse.Namespace, desk: Desk) -> int:
    print_rows(args.output, list_names(desk).facts["tokens"])
    return 0
