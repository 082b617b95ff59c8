"""Floor 6: the command line. One thin file per command, with `add_parser(subparsers)` and `run(args) -> exit code`.

Holds no rules: a command reads its words, calls the rooms below and prints. Results go to stdout, all else to stderr;
0 is done, 1 refused or failed, 2 wrong usage. Only the chosen command is imported, so that a token
command starts in less than 100 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import proxy
from proxy.process import shut_memory

#: Command -> module of this room, and its line in `promgate --help`.
_COMMANDS = {
    "serve": ("serve", "run the proxy"),
    "check": ("check", "say whether the config is good, or all that is wrong with it"),
    "token": ("token", "create, list, show, rotate and revoke tokens"),
    "explain": ("explain", "say which route, rule, limit and token state decide a request"),
    "audit": ("audit", "say whether the record of changes is whole"),
    "certs": ("certs", "make and show certificates of an own small authority"),
    "init": ("init", "make what a first start needs and does not find"),
    "hash-password": ("hash_password", "make the bcrypt hash of a password for basic_auth_users"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    shut_memory()
    try:
        _open_standard_streams()
        code = _run_to_its_end(sys.argv[1:] if argv is None else argv)
        if sys.stdout is not None:
            sys.stdout.flush()  # what does not arrive is known now, and not when the interpreter has ended
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `promgate token list | head -1`
        abandon_stdout()
        return 1
    except OSError as error:  # `promgate token list > /dev/full`
        abandon_stdout()
        say(f"{error.filename or 'what was to be printed or read is lost'}: {error.strerror or error}")
        return 1
    return code


def add_config_file(parser: argparse.ArgumentParser) -> None:
    """`--config.file`, as `args.config_file`, the same for every command that needs the config."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        metavar="F",
        default=os.environ.get("PROMGATE_CONFIG_FILE") or "promgate.yml",
        help="the configuration (default: $PROMGATE_CONFIG_FILE, else ./promgate.yml)",
    )


def duration(text: str) -> float:
    """An argument that is a time: 24h."""
    from proxy.config.units import parse_duration  # noqa: PLC0415 - most commands have no time among their words

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def say(text: object) -> None:
    """One line to the operator, beside the result. Whoever does not take it changes nothing of what is done."""
    with suppress(OSError):
        print(f"promgate: {text}", file=sys.stderr)


def abandon_stdout() -> None:
    """Nobody reads our output: what is left of it must not end the process with a second complaint."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_standard_streams() -> None:
    """A command may be started without them (`>&-`): then a store that is opened must not become what others print to.

    Nothing is read, what is said is lost; and `sys.stdout` stays None, for a token must be handed to somebody.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def _run_to_its_end(words: list[str]) -> int:
    try:
        return _run(words)
    except SystemExit as end:  # argparse has printed help, the version, or what is wrong
        return end.code if isinstance(end.code, int) else 0


def _run(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="promgate", description=proxy.__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"promgate {proxy.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in words if not word.startswith("-")), "")
    for command, (_, line) in _COMMANDS.items():
        if command == chosen:
            _module(command).add_parser(commands)
        else:
            commands.add_parser(command, help=line)
    args = parser.parse_args(words)
    return int(_module(args.command).run(args))


def _module(command: str) -> Any:
    return import_module(f"{__name__}.{_COMMANDS[command][0]}")
