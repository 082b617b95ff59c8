"""promgate token digest: what write_tokens holds of a token. It needs no configuration and no store."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from proxy.cli import say
from proxy.tokens.secret import SCHEME, digest, looks_minted, mint
from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    import argparse

#: More than any token; a pasted log file is a mistake.
_MAX_SHOWN = 4096
#: 128 random bits in base64, or in hexadecimal digits.
_MIN_SHOWN = 22


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--new", action="store_true", help="mint a token: it goes to stdout, its digest to stderr")


def run(args: argparse.Namespace) -> int:
    if args.new:
        minted = mint(TokenKind.WRITE, os.urandom)
        print(minted.secret.reveal(), flush=True)
        say(f"{SCHEME}:{minted.digest.hex()}")
        return 0
    shown = sys.stdin.buffer.read(_MAX_SHOWN + 1).strip()
    if not shown or len(shown) > _MAX_SHOWN or any(not 0x21 <= byte <= 0x7E for byte in shown):
        say("give one token on stdin, alone: printable, without spaces, of 4096 characters at most")
        return 1
    if not looks_minted(shown) and len(shown) < _MIN_SHOWN:
        say(f"warning: {len(shown)} characters can be guessed by their digest: `promgate token digest --new` mints one")
    print(f"{SCHEME}:{digest(shown).hex()}")
    return 0
