"""promgate token verify NAME"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli import say
from proxy.cli.token.saying import answer
from proxy.desk.verifying import MAX_CREDENTIAL, verify_delivered, verify_shown

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--credentials-file",
        metavar="F",
        help="the token to prove, `-` for stdin (default: the first file of NAME in tokens.deliver)",
    )


def act(args: argparse.Namespace, desk: Desk) -> int:
    file = args.credentials_file
    if file is None:
        return answer(verify_delivered(desk, args.name))
    try:
        shown = sys.stdin.buffer.read(MAX_CREDENTIAL) if file == "-" else Path(file).read_bytes()[:MAX_CREDENTIAL]
    except OSError as error:
        say(f"{file} cannot be read: {error.strerror}")
        return 1
    return answer(verify_shown(desk, args.name, shown))
