"""promgate token renew: the sender's side. It needs no configuration and no store."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import proxy
from proxy.cli import duration, say

if TYPE_CHECKING:
    import argparse

_INTERVAL_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, metavar="U", help="promgate's: https://prometheus.example.net")
    parser.add_argument("--credentials-file", type=Path, required=True, metavar="F", help="where the sender reads it")
    parser.add_argument("--ca-file", default="", metavar="F", help="who signs its certificate (default: the system's)")
    parser.add_argument("--cert-file", default="", metavar="F", help="a client certificate to be known by, in PEM")
    parser.add_argument("--key-file", default="", metavar="F", help="its key")
    parser.add_argument("--watch", action="store_true", help="go on asking until SIGTERM")
    parser.add_argument("--interval", type=duration, metavar="60s", help="with --watch, between looks (default: 60s)")


def run(args: argparse.Namespace) -> int:
    from proxy.delivery.renew import AGENT, Renewer, RenewError, watch  # noqa: PLC0415 - TLS: other commands need none

    if bool(args.cert_file) != bool(args.key_file):
        say("--cert-file and --key-file belong together")
        return 2
    if args.interval is not None and not args.watch:
        say("--interval is for --watch alone: nothing was done")
        return 2
    pair, agent = (args.cert_file, args.key_file), f"{AGENT}/{proxy.__version__}"
    try:
        renewer = Renewer(args.url, args.credentials_file, args.ca_file, pair=pair, agent=agent)
        if not args.watch:
            say(renewer.look().value)
            return 0
    except RenewError as error:
        say(error)
        return 1
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    watch(renewer, max(_INTERVAL_S if args.interval is None else args.interval, 1.0), ended, say)
    return 0
