"""`promgate explain`: which route, rule, limit and token state decide a request, by the same gate that serves.

The configuration and the store are read as they are now. What only a running server knows (debts of a rate, guesses)
is taken for none.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import math
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from proxy.cli import add_config_file, say
from proxy.config.read import ConfigError, load
from proxy.gate.ask import CheckPassword
from proxy.gate.credentials import ShownCertificate, ShownPassword, ShownToken, read_credential
from proxy.gate.decide import Gate
from proxy.gate.edits import IDENTITY_FIELDS
from proxy.gate.explain import explain
from proxy.gate.memory import Memory
from proxy.login.introspection import Introspector
from proxy.login.jwt import JwtVerifier
from proxy.login.passwords import PasswordChecker
from proxy.relay.context import RelayContext
from proxy.relay.finder import AnswerFinder
from proxy.relay.judging import Judging
from proxy.stores.sqlite import open_store
from proxy.tokens.ports import StoreError
from proxy.tokens.token import TokenState, state_at
from proxy.wire.head import RequestMemo, admit_request
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from proxy.config.read import Loaded
    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown
    from proxy.gate.decision import Verdict
    from proxy.relay.context import Finder
    from proxy.tokens.token import Token
    from proxy.wire.head import RequestHead

_LINE = "say which route, rule, limit and token state decide a request"
_MAX_CREDENTIAL_BYTES = 64 * 1024


class _Unable(Exception):
    """The request cannot be put to the gate; the text says why."""


class _Case(NamedTuple):
    """One request. `granted`: a password is taken for the right one, as --as says."""

    head: RequestHead
    shown: Shown | None
    ip: str
    granted: bool = False


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("explain", help=_LINE, description=_LINE, allow_abbrev=False)
    parser.add_argument("url", metavar="URL", help="as the client has it; or a path")
    parser.add_argument("-X", "--request", dest="method", default="GET", metavar="METHOD")
    parser.add_argument("-H", "--header", dest="fields", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--from", dest="ip", default="127.0.0.1", metavar="ADDRESS", help="of the peer")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--credentials-file", metavar="F", help="a bearer token (- for stdin)")
    shown.add_argument("--user", metavar="NAME", help="basic auth; needs --password-file")
    shown.add_argument("--as", dest="identity", metavar="IDENTITY", help="token:NAME, basic:USER or cert:CN=NAME")
    parser.add_argument("--password-file", metavar="F", help="- for stdin")
    add_config_file(parser)
    parser.add_argument("--output", choices=["text", "json"], default="text")


def run(args: argparse.Namespace) -> int:
    """0: it would be relayed, or answered by promgate itself; 1: refused, or it could not be told."""
    if (args.user is None) != (args.password_file is None):
        say("--user and --password-file go together")
        return 2
    try:
        told = _explain(args)
    except Unlawful as wrong:
        told = {"decision": "deny", "reason": "unlawful", "status": wrong.status, "answer": f"promgate: {wrong}"}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except (StoreError, OSError, _Unable) as error:
        say(error)
        return 1
    _print(told, args.output)
    return 1 if told["decision"] == "deny" else 0


def _explain(args: argparse.Namespace) -> dict[str, object]:
    loaded = load(Path(args.config_file))
    memory = Memory(os.urandom(32))
    if loaded.settings.store is not None and loaded.settings.store.exists():
        with closing(open_store(loaded.settings.store, make=False)) as store:
            memory.book.apply(store.changes_since(0))
    case = _case(args, Gate(loaded.snapshot, memory), memory.book.tokens.values())
    verdict = asyncio.run(_decide(case, loaded, memory))
    return explain(case.head, case.shown, case.ip, verdict, memory.book.tokens.values(), time.time())


async def _decide(case: _Case, loaded: Loaded, memory: Memory) -> Verdict:
    jwts, passwords = JwtVerifier(loaded.snapshot.jwt_issuers), PasswordChecker()
    introspector = Introspector(loaded.snapshot.introspection)
    finder: Finder = AnswerFinder(None, passwords, jwts, introspector)
    relay = RelayContext(Gate(loaded.snapshot, memory), _Granting(finder) if case.granted else finder, lambda _: None)
    try:
        return await Judging(relay).request(case.head, case.shown, case.ip)
    finally:
        jwts.close()
        await introspector.aclose()
        passwords.close()


class _Granting:
    """Finds every password right: the identity was named, and its secret is not asked for."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    async def answer(self, question: Question) -> Answer:
        return True if isinstance(question, CheckPassword) else await self._finder.answer(question)


def _case(args: argparse.Namespace, gate: Gate, tokens: Iterable[Token]) -> _Case:
    url = urlsplit(args.url)
    if url.scheme not in {"", "http", "https"}:
        raise _Unable(f"{args.url!r} is not a URL of http or https")
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    lines = [f"{args.method} {target} HTTP/1.1", f"Host: {url.netloc.rpartition('@')[2] or 'localhost'}"]
    raw = "\r\n".join([*lines, *args.fields, "", ""]).encode()
    head = admit_request(raw, len(raw) - 4, RequestMemo(IDENTITY_FIELDS))
    ip = _address(args.ip)
    if gate.proxies is not None:
        ip, _ = gate.proxies.read(raw, ip, url.scheme or "https")
    if args.identity is not None:
        return _Case(head, _stand_in(args.identity, tokens), ip, granted=True)
    value = _authorization(args) or head.authorization
    return _Case(head, None if value is None else read_credential(value), ip)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise _Unable(f"--from {text!r} is not an IP address") from None


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


def _stand_in(identity: str, tokens: Iterable[Token]) -> Shown:
    """What `identity` would show, as far as the gate looks at it."""
    kind, _, name = identity.partition(":")
    if kind == "basic" and name:
        return ShownPassword(name, b"")
    if kind == "cert" and name.startswith(("CN=", "SAN=")):
        return ShownCertificate((identity,), math.inf)
    if kind != "token" or not name:
        raise _Unable(
            f"--as {identity!r}: token:NAME, basic:USER and cert:CN=NAME are taken; show any other credential itself"
        )
    now = time.time()
    named = [token for token in tokens if token.name == name]
    if not named:
        raise _Unable(f"there is no token named {name!r}: `promgate token list` shows the names")
    current = next((token for token in named if state_at(token, now) is TokenState.CURRENT), named[-1])
    return ShownToken(current.digest, minted=True)


def _print(told: dict[str, object], output: str) -> None:
    if output == "json":
        print(json.dumps(told, indent=2))
        return
    width = max(map(len, told))
    for word, value in told.items():
        values = value if isinstance(value, list) else [value]
        for index, each in enumerate(values or ["none"]):
            print(f"{'' if index else word:<{width}}  {each}")
