"""`promgate hash-password`: a password in, its bcrypt hash out, for `basic_auth_users`."""

from __future__ import annotations

import argparse
import getpass
import sys

from proxy.cli import say

#: Prometheus' own default, about 60 ms of a core for each login that no cache knows.
_DEFAULT_COST = 10
#: Each step doubles the time: at 14 one login takes 1 s of a core. `config.users` takes the same costs.
_COSTS = range(4, 15)
#: bcrypt reads no further: what is longer would be cut off in silence (CVE-2025-22228).
_MAX_BYTES = 72


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    line = "read a password from the terminal or stdin and print its bcrypt hash"
    parser = subparsers.add_parser("hash-password", help=line, description=line, allow_abbrev=False)
    parser.add_argument("--cost", type=_cost, default=_DEFAULT_COST, metavar="N", help="4 to 14 (default: 10)")


def run(args: argparse.Namespace) -> int:
    password = _from_terminal() if sys.stdin.isatty() else _from_pipe()
    if password is None:
        return 1
    if not password:
        say("the password is empty")
        return 1
    if len(password) > _MAX_BYTES:
        say(f"the password is longer than {_MAX_BYTES} bytes, and bcrypt would ignore the rest: take a shorter one")
        return 1
    if b"\0" in password or b"\n" in password:
        say("the password has a line break or a zero byte in it, which no browser can send: give one line")
        return 1
    import bcrypt  # noqa: PLC0415 - not before the password is lawful, and not for `promgate --help`

    print(bcrypt.hashpw(password, bcrypt.gensalt(args.cost)).decode())
    return 0


def _cost(text: str) -> int:
    if not text.isdecimal() or int(text) not in _COSTS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a cost from {_COSTS[0]} to {_COSTS[-1]}")
    return int(text)


def _from_terminal() -> bytes | None:
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        say("the two are not the same")
        return None
    return password.encode(errors="surrogateescape")


def _from_pipe() -> bytes:
    """One line; the line break that `echo` adds is not part of the password."""
    return sys.stdin.buffer.read(2 * _MAX_BYTES).removesuffix(b"\n").removesuffix(b"\r")
