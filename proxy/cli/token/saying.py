"""How a token command speaks: the secret alone on stdout, rows as a table or JSON, all else on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from proxy.cli import abandon_stdout, say
from proxy.desk.auditing import record_end
from proxy.desk.rotating import Outlets
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.ports import DeliveryError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from proxy.desk.desk import Desk, Report
    from proxy.tokens.ports import Parcel


class Terminal:
    """A sink: whoever reads our stdout, once."""

    target = "stdout"

    def __init__(self) -> None:
        self.has_printed = False

    def deliver(self, parcel: Parcel) -> None:
        try:
            print(parcel.secret.reveal(), flush=True)
        except OSError as error:
            abandon_stdout()
            raise DeliveryError(f"stdout: token {parcel.token_id} could not be printed ({error.strerror})") from error
        self.has_printed = True


def outlets_of(terminal: Terminal, *, is_wanted: bool) -> Outlets:
    """Our stdout, beside the configured targets if it is wanted, else where there are none; if anybody can read it."""
    if sys.stdout is None:
        return Outlets()
    return Outlets(extra=(terminal,)) if is_wanted else Outlets(instead=(terminal,))


def find_misplaced(args: argparse.Namespace, flags: dict[str, str], why: str) -> bool:
    """Whether one of `flags` (flag -> attribute) was given where it says nothing; then that is said."""
    values = {flag: getattr(args, attribute) for flag, attribute in flags.items()}
    given = [flag for flag, value in values.items() if value is not None and value is not False]
    if given:
        say(f"{', '.join(given)} {why}: nothing was done")
    return bool(given)


def answer(result: Report | Refusal, desk: Desk | None = None, name: str = "") -> int:
    """Say what was done or why not; the exit code. `desk`: who was asked for a change; a no is put on its record."""
    if desk is not None:
        record_end(desk, name, result)
    if isinstance(result, Refusal):
        say(result.text)
        return 1
    for line in result.notes:
        say(line)
    if result.failure:
        say(f"warning: {result.failure}")
        return 1
    return 0


def print_rows(output: str, rows: Sequence[dict[str, Any]]) -> None:
    """A JSON list, or a table whose columns are the same words in capitals."""
    if output == "json":
        print_json(rows)
        return
    cells = [[("-" if value is None else str(value)) for value in row.values()] for row in rows]
    lines = [[key.upper() for row in rows[:1] for key in row], *cells]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines if rows else ():
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", choices=["table", "json"], default="table")
