"""`promgate certs ...`: an authority of one's own for what stays inside, and a look into any certificate file.

stdout gets the paths that were made, certificate before key, and nothing else. `cryptography` is imported here only,
and only when a command runs: a server's memory has no need of it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli import say

if TYPE_CHECKING:
    import argparse

    from proxy.pki.authority import Pair
    from proxy.pki.inspect import CertificateFacts

DEFAULT_DIRECTORY = Path("certs")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("certs", help="make and show certificates of an own small authority")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    init = _action(actions, "init", "make the authority: ca.crt and ca.key (valid for 10 years)")
    _add_place(init)

    issue = _action(actions, "issue", "issue NAME.crt with its key, signed by the authority")
    issue.add_argument("name", metavar="NAME")
    issue.add_argument("--dns", action="append", default=[], metavar="HOST", help="a name it stands for (repeatable)")
    issue.add_argument("--ip", action="append", default=[], metavar="IP", help="an address it stands for (repeatable)")
    issue.add_argument("--server", action="store_true", help="for a server (default, unless --client is given)")
    issue.add_argument("--client", action="store_true", help="for a client")
    issue.add_argument("--days", type=int, default=365, metavar="N", help="how long it is valid (default: 365)")
    _add_place(issue)

    show = _action(actions, "show", "what stands in a certificate file: each of a PEM chain, or one as DER")
    show.add_argument("file", type=Path, metavar="FILE")
    show.add_argument("--output", choices=["table", "json"], default="table")


def run(args: argparse.Namespace) -> int:
    if args.action == "show":
        return _show(args.file, args.output)
    from proxy.pki.authority import AuthorityError, Leaf, issue, make_authority  # noqa: PLC0415 - see above

    now = datetime.now(UTC).replace(microsecond=0)
    try:
        if args.action == "init":
            _print_pair(make_authority(args.dir, now, force=args.force))
        else:
            server = args.server or not args.client
            leaf = Leaf(args.name, args.dns, args.ip, server=server, client=args.client, days=args.days)
            _print_pair(issue(args.dir, leaf, now, force=args.force))
    except AuthorityError as error:
        say(error)
        return 1
    return 0


def _show(path: Path, output: str) -> int:
    from proxy.pki.inspect import NoCertificate, inspect  # noqa: PLC0415 - see above

    try:
        chain = inspect(path.read_bytes())
    except OSError as error:
        say(f"{path}: cannot be read: {error.strerror}")
        return 1
    except NoCertificate as error:
        say(f"{path}: {error}")
        return 1
    if output == "json":
        print(json.dumps([_as_json(facts) for facts in chain], indent=2))
    else:
        print("\n\n".join(_as_table(facts) for facts in chain))
    return 0


def _as_json(facts: CertificateFacts) -> dict[str, object]:
    return asdict(facts) | {"not_before": _time(facts.not_before), "not_after": _time(facts.not_after)}


def _as_table(facts: CertificateFacts) -> str:
    values = _as_json(facts).items()
    width = max(len(key) for key, _ in values)
    return "\n".join(f"{key.upper():{width}}  {_cell(value)}" for key, value in values)


def _cell(value: object) -> str:
    """One line: a name may hold what it likes, but it must not move the terminal's cursor."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) or "-"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _print_pair(pair: Pair) -> None:
    print(pair.cert_file)
    print(pair.key_file)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, line: str
) -> argparse.ArgumentParser:
    return actions.add_parser(name, help=line, description=line, allow_abbrev=False)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", type=Path, default=DEFAULT_DIRECTORY, metavar="D", help="the authority's directory (default: certs)"
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")
