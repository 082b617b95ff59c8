"""`promgate init`: what a first start needs and does not find. The rules are in `proxy.first_start`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from proxy.cli import add_config_file, say
from proxy.config.read import ConfigError, load
from proxy.first_start import USERS_FILE, FirstStart, FirstStartError
from proxy.tokens.ports import StoreError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    line = "make what a first start needs and does not find; run it before every start"
    parser = subparsers.add_parser("init", help=line, description=line, allow_abbrev=False)
    add_config_file(parser)
    parser.add_argument("--dns", action="append", default=[], metavar="HOST", help="a name the certificate stands for")
    parser.add_argument("--ip", action="append", default=[], metavar="IP", help="an address it stands for")
    parser.add_argument("--write-token", metavar="NAME", help="make the first write token of NAME, in NAME.token")
    parser.add_argument(
        "--admin-password", action="store_true", help=f"make {USERS_FILE} with the user admin, and admin.password"
    )
    parser.add_argument(
        "--serve", nargs=argparse.REMAINDER, metavar="ARG", help="then become `promgate serve` with these arguments"
    )


def run(args: argparse.Namespace) -> int:
    # Not left to whoever starts us: nothing made here is for others.
    os.umask(0o077)
    config_file = Path(args.config_file)
    try:
        start = FirstStart(load(config_file, open_files=False).settings, say, _hash)
        start.make(args.dns, args.ip, admin_password=args.admin_password, write_token=args.write_token)
    except (ConfigError, StoreError, FirstStartError) as error:
        say(error)
        return 1
    except OSError as error:
        say(f"{error.filename}: {error.strerror}: is the volume there, and may uid {os.geteuid()} write it?")
        return 1
    if args.serve is not None:
        _become_server(config_file, args.serve)
    return 0


def _hash(password: str) -> str:
    """By `promgate hash-password`, through a pipe: bcrypt stays in its rooms."""
    command = [sys.executable, "-m", "proxy", "hash-password"]
    return subprocess.run(command, input=password, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()  # noqa: S603


def _become_server(config_file: Path, words: list[str]) -> None:
    """The server takes our process id, so that it gets the signals, and nothing of what init has loaded."""
    sys.stderr.flush()
    command = [sys.executable, "-m", "proxy", "serve", f"--config.file={config_file}", *words]
    os.execv(sys.executable, command)  # noqa: S606
