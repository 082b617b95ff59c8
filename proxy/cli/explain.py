"""`promgate explain`: which route, rule, limit and token state decide a request, by the same gate that serves.

The configuration and the store are read as they are now. What only a running server knows (debts of a rate, guesses)
is taken for none. With --request-id it is a request of the access log.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from proxy.cli import add_config_file, say
from proxy.cli.case import Case, Unable, explain_case, read_memory
from proxy.cli.guise import put_on
from proxy.cli.recorded import explain_recorded
from proxy.config.read import ConfigError, load
from proxy.gate.credentials import read_credential
from proxy.gate.edits import IDENTITY_FIELDS
from proxy.observe.recorded import find_recorded, is_request_id
from proxy.tokens.ports import StoreError
from proxy.wire.head import RequestMemo, admit_request
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    import argparse

    from proxy.config.read import Loaded
    from proxy.gate.memory import Memory
    from proxy.observe.recorded import Recorded

_LINE = "say which route, rule, limit and token state decide a request"
_MAX_CREDENTIAL_BYTES = 64 * 1024


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("explain", help=_LINE, description=_LINE, allow_abbrev=False)
    parser.add_argument("url", metavar="URL", nargs="?", help="as the client has it; or a path")
    parser.add_argument("-X", "--request", dest="method", default="GET", metavar="METHOD")
    parser.add_argument("-H", "--header", dest="fields", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--from", dest="ip", default="127.0.0.1", metavar="ADDRESS", help="of the peer")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--credentials-file", metavar="F", help="a bearer token (- for stdin)")
    shown.add_argument("--user", metavar="NAME", help="basic auth; needs --password-file")
    shown.add_argument(
        "--as",
        dest="identities",
        action="append",
        default=[],
        metavar="IDENTITY",
        help="as roles have it: token:NAME, basic:USER, cert:CN=NAME, jwt:CLAIM=VALUE, oidc:group:GROUP, ...; "
        "of people, certificates and tokens of others once for each thing that they are",
    )
    parser.add_argument("--password-file", metavar="F", help="- for stdin")
    parser.add_argument("--request-id", metavar="ID", help="instead of a URL: of a request in the access log")
    parser.add_argument("--log", metavar="F", help="with --request-id: the log, if not as configured (- for stdin)")
    add_config_file(parser)
    parser.add_argument("--output", choices=["text", "json"], default="text")


def run(args: argparse.Namespace) -> int:
    """0: it would be relayed, or answered by promgate itself; 1: refused, or it could not be told."""
    misused = _misused(args)
    if misused:
        say(misused)
        return 2
    try:
        told = _explain(args)
    except Unlawful as wrong:
        told = {"decision": "deny", "reason": "unlawful", "status": wrong.status, "answer": f"promgate: {wrong}"}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except (StoreError, OSError, Unable) as error:
        say(error)
        return 1
    _print(told, args.output)
    return 1 if _is_refused(told) else 0


def _misused(args: argparse.Namespace) -> str:
    """What is wrong with how the words were put together; empty for nothing."""
    if (args.url is None) == (args.request_id is None):
        return "write the URL of a request, or --request-id of one in the access log"
    if args.log is not None and args.request_id is None:
        return "--log goes with --request-id"
    of_a_request = args.fields or args.credentials_file or args.user or args.identities
    if args.request_id is not None and of_a_request:
        return "with --request-id, all of the request is in the log: leave the rest out"
    if (args.user is None) != (args.password_file is None):
        return "--user and --password-file go together"
    return ""


def _is_refused(told: dict[str, Any]) -> bool:
    if "recorded" in told:
        return not 0 < int(told["recorded"]["status"]) < 400
    return bool(told["decision"] == "deny")


def _explain(args: argparse.Namespace) -> dict[str, object]:
    loaded = load(Path(args.config_file))
    memory = read_memory(loaded)
    if args.request_id is not None:
        return explain_recorded(_find(args, loaded), loaded, memory)
    case = _case(args, loaded, memory)
    return explain_case(case, loaded, memory, time.time())


def _find(args: argparse.Namespace, loaded: Loaded) -> Recorded:
    """The line of the request in the log that was named, or in the one of the configuration."""
    if not is_request_id(args.request_id):
        raise Unable(f"--request-id {args.request_id!r}: an id is 16 hexadecimal digits, as X-Request-Id has it")
    file = loaded.settings.access_log.file if args.log is None else args.log
    if file is None:
        raise Unable("the access log goes to stderr: pipe it in, with --log -")
    with sys.stdin.buffer if file == "-" else Path(file).open("rb") as lines:
        found = find_recorded(lines, args.request_id)
    if found is None:
        where = "the log" if file == "-" else file
        raise Unable(f"{where} has no request {args.request_id}; --log names an older file")
    return found


def _case(args: argparse.Namespace, loaded: Loaded, memory: Memory) -> Case:
    url = urlsplit(args.url)
    if url.scheme not in {"", "http", "https"}:
        raise Unable(f"{args.url!r} is not a URL of http or https")
    guise = put_on(args.identities, args.method.encode(), loaded, memory, time.time()) if args.identities else None
    fields = [*args.fields, *(guise.fields if guise is not None else ())]
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"{args.method} {target} HTTP/1.1", f"Host: {url.netloc.rpartition('@')[2] or 'localhost'}"]
    raw = "\r\n".join([*lines, *fields, "", ""]).encode()
    head = admit_request(raw, len(raw) - 4, RequestMemo(IDENTITY_FIELDS))
    ip = _address(args.ip)
    proxies = loaded.snapshot.trusted_proxies
    if proxies is not None:
        ip, _ = proxies.read(raw, ip, url.scheme or "https")
    if guise is not None:
        return Case(head, guise.shown, ip, granted=True, claims=guise.claims)
    value = _authorization(args) or head.authorization
    return Case(head, None if value is None else read_credential(value), ip)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise Unable(f"--from {text!r} is not an IP address") from None


def _authorization(args: argparse.Namespace) -> bytes | None:
    """The Authorization value of the credential that was named."""
    if args.credentials_file is not None:
        return b"Bearer " + _read(args.credentials_file)
    if args.user is not None:
        pair = args.user.encode(errors="surrogateescape") + b":" + _read(args.password_file)
        return b"Basic " + base64.b64encode(pair)
    return None


def _read(file: str) -> bytes:
    """One secret, without the line break that `echo` leaves. OSError: it cannot be read."""
    stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed below
    with stream:
        return stream.read(_MAX_CREDENTIAL_BYTES).removesuffix(b"\n").removesuffix(b"\r")


def _print(told: dict[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(told, indent=2))
        return
    if "recorded" not in told:
        _print_words(told)
        return
    print("Recorded by the server:")
    _print_words(told["recorded"])
    if told["judged"] is not None:
        print("\nJudged anew, as of then, by the configuration and the tokens as they are now:")
        _print_words(told["judged"])
    print(f"\n{told['note']}")


def _print_words(told: dict[str, object]) -> None:
    width = max(map(len, told))
    for word, value in told.items():
        values = value if isinstance(value, list) else [value]
        for index, each in enumerate(values or ["none"]):
            print(f"{'' if index else word:<{width}}  {each}")
