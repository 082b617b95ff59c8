"""promgate check: is the configuration good? If not, everything that is wrong with it, as file:line: path: text.

If so, what an operator should know of it, certificates that end soon among it: that is a warning, and no failure.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli import add_config_file, duration
from proxy.config.problem import Problem, printable
from proxy.config.read import ConfigError, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from proxy.config.read import Loaded

#: As `proxy.pki.expiry.SOON_S` has it.
_SOON = "21d"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "check", help="say whether the config is good, or all that is wrong with it", allow_abbrev=False
    )
    add_config_file(parser)
    parser.add_argument(
        "--expires-within",
        type=duration,
        default=_SOON,
        metavar="T",
        help=f"warn of certificates that end this soon (default: {_SOON})",
    )
    parser.add_argument("--output", choices=["text", "json"], default="text")


def run(args: argparse.Namespace) -> int:
    path = Path(args.config_file)
    problems: list[Problem] = []
    warnings: list[Problem] = []
    routes = 0
    try:
        loaded = load(path)
    except ConfigError as error:
        problems = error.problems
    else:
        ending = _ending(path, loaded, time.time(), args.expires_within)
        routes, warnings = len(loaded.snapshot.routes), [*loaded.warnings, *_in_both(path, loaded), *ending]
    if args.output == "json":
        _print_json(path, routes, problems, warnings)
    else:
        _print_text(path, routes, problems, warnings)
    return 1 if problems else 0


def _ending(path: Path, loaded: Loaded, now: float, within_s: float) -> Iterator[Problem]:
    """A warning for each file whose certificates, or one of them, have ended or end soon."""
    if not loaded.certificates:
        return
    from proxy.pki.expiry import tell_ending  # noqa: PLC0415 - ssl costs 10 ms that only certificates need to pay

    for option, file in loaded.certificates.items():
        told = tell_ending(file, now, within_s)
        if told:
            yield Problem(str(path), loaded.lines[option], option, f"{printable(file)}: {told}")


def _in_both(path: Path, loaded: Loaded) -> Iterator[Problem]:
    """What stands in write_tokens and in the token store."""
    configured, store = loaded.snapshot.token_rules.configured, loaded.settings.store
    if not configured or store is None or not store.exists():
        return
    from contextlib import closing  # noqa: PLC0415 - most configurations need none of this

    from proxy.stores.sqlite import open_store  # noqa: PLC0415
    from proxy.tokens.configured import find_in_both  # noqa: PLC0415
    from proxy.tokens.ports import StoreError  # noqa: PLC0415

    try:
        with closing(open_store(store, make=False)) as opened:
            told = find_in_both(configured, opened.changes_since(0).tokens)
    except StoreError as error:
        told = [f"cannot be held against the token store: {error}"]
    for text in told:
        yield Problem(str(path), 0, "write_tokens", text)


def _print_text(path: Path, routes: int, problems: list[Problem], warnings: list[Problem]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        counts = [_count(routes, "route")] + ([_count(len(warnings), "warning")] if warnings else [])
        print(f"{path}: ok, {', '.join(counts)}")


def _print_json(path: Path, routes: int, problems: list[Problem], warnings: list[Problem]) -> None:
    verdict = {
        "file": str(path),
        "ok": not problems,
        "routes": routes,
        "problems": [problem._asdict() for problem in problems],
        "warnings": [warning._asdict() for warning in warnings],
    }
    print(json.dumps(verdict, indent=2))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
