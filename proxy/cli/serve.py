"""promgate serve: run the proxy until a signal."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli import add_config_file

if TYPE_CHECKING:
    from proxy.config.units import Address

SUMMARY = "run the proxy"
_log = logging.getLogger("promgate.server")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("serve", help=SUMMARY)
    add_config_file(parser)
    parser.add_argument(
        "--web.listen-address",
        dest="listen",
        action="append",
        default=[],
        type=_address,
        metavar="A",
        help="listen here, and not where the configuration says (repeatable): host:port, [v6]:port or :port",
    )
    parser.add_argument("--log.level", dest="log_level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log.format", dest="log_format", default="logfmt", choices=["logfmt", "json"])


def run(args: argparse.Namespace) -> int:
    # Imported here: other commands must not pay for the server's modules.
    from proxy import app  # noqa: PLC0415
    from proxy.config.read import ConfigError, load  # noqa: PLC0415
    from proxy.observe.process_log import set_up_logging  # noqa: PLC0415
    from proxy.pki.context import PairError  # noqa: PLC0415
    from proxy.signals import hush_hangup  # noqa: PLC0415
    from proxy.tokens.ports import StoreError  # noqa: PLC0415

    hush_hangup()
    set_up_logging(args.log_level, args.log_format)
    try:
        loaded = load(Path(args.config_file), listen=tuple(args.listen))
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        return app.run(loaded)
    except ConfigError as error:
        for problem in error.problems:
            _log.error("%s", problem)
    except (OSError, StoreError, PairError) as error:
        _log.error("%s", error)
    return 1


def _address(text: str) -> Address:
    from proxy.config.units import parse_listen  # noqa: PLC0415

    try:
        return parse_listen(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
