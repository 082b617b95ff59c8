"""promgate token verify NAME"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli import say
from proxy.cli.token.saying import answer
from proxy.desk.verifying import verify
from proxy.tokens.secret import Secret
from proxy.tokens.targets import FileTarget

if TYPE_CHECKING:
    import argparse

    from proxy.desk.desk import Desk

_MAX_CREDENTIAL = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--credentials-file",
        metavar="F",
        help="the token to prove, `-` for stdin (default: the first file of NAME in tokens.deliver)",
    )


def act(args: argparse.Namespace, desk: Desk) -> int:
    files = [each.path for each in desk.rules.deliver.get(args.name, ()) if isinstance(each, FileTarget)]
    file = args.credentials_file or next(iter(files), None)
    if file is None:
        say(f"{args.name} has no file in tokens.deliver, and no clear token is kept: name its --credentials-file")
        return 1
    try:
        shown = sys.stdin.buffer.read(_MAX_CREDENTIAL) if file == "-" else Path(file).read_bytes()[:_MAX_CREDENTIAL]
    except OSError as error:
        say(f"{file} cannot be read: {error.strerror}")
        return 1
    return answer(verify(desk, args.name, Secret(shown.strip().decode(errors="replace"))))
