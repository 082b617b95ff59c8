"""From what the configuration says of a name to the sinks that take its tokens, and to the canary that proves them.

A new kind of place is a value in tokens/targets.py, a sink beside this file, a case here, and a key in
config/delivery.py; tests/delivery/test_sink_contract.py says what it has to keep. Only the kinds that a configuration
names are imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.tokens.targets import CommandTarget, FileTarget, WebhookTarget

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.gate.snapshot import TokenRules
    from proxy.tokens.ports import Prover, Sink
    from proxy.tokens.targets import Target


def sinks_of(rules: TokenRules, name: str) -> tuple[Sink, ...]:
    """Where the tokens of `name` go; empty where nothing is configured."""
    return open_sinks(rules.deliver.get(name, ()))


def prover_of(rules: TokenRules) -> Prover | None:
    """What proves a new token; None where nothing is configured."""
    if rules.canary is None:
        return None
    from proxy.delivery.canary import Canary  # noqa: PLC0415 - each part is paid for where it is used

    return Canary(rules.canary)


def open_sinks(targets: Iterable[Target]) -> tuple[Sink, ...]:
    """A sink for each target, in their order. Nothing is opened or looked at before the first delivery."""
    return tuple(map(_open, targets))


def _open(where: Target) -> Sink:
    match where:
        case FileTarget():
            from proxy.delivery.file import FileSink  # noqa: PLC0415

            return FileSink(where)
        case CommandTarget():
            from proxy.delivery.command import CommandSink  # noqa: PLC0415

            return CommandSink(where)
        case WebhookTarget():
            from proxy.delivery.webhook import WebhookSink  # noqa: PLC0415

            return WebhookSink(where)
