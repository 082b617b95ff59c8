"""Digests of write tokens that stand in the configuration, for deployments with no disk. A clear token never does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.config.problem import join_key
from proxy.config.words import NAME
from proxy.tokens.configured import build_configured

if TYPE_CHECKING:
    from proxy.config.problem import Report
    from proxy.config.schema import Config
    from proxy.tokens.token import Token


def build_write_tokens(config: Config, report: Report) -> tuple[Token, ...]:
    """All of them, those of a name one after the other."""
    places: dict[bytes, str] = {}
    for name, digests in config.write_tokens.items():
        path = join_key("write_tokens", name)
        _check_name(name, path, config, report)
        if not digests and report.is_sound(path):
            report.problem(path, "a digest is missing; write one, or take the name away")
        for index, digest in enumerate(digests):
            at = f"{path}[{index}]" if f"{path}[{index}]" in report.lines else path
            first = places.setdefault(digest, at) if report.is_sound(at) else at
            if first != at:
                report.problem(at, f"the same digest stands in line {report.line_of(first)}: a token has one name")
    takes = any("write_token" in route.auth for route in config.routes)
    if config.write_tokens and not takes and report.is_sound("write_tokens", "routes"):
        report.warning("write_tokens", "without effect: no route takes write_token")
    return tuple(token for name, digests in config.write_tokens.items() for token in build_configured(name, digests))


def _check_name(name: str, path: str, config: Config, report: Report) -> None:
    try:
        NAME.parse(name)
    except ValueError as error:
        report.problem(path, str(error))
    for option, names in (("deliver", config.tokens.deliver), ("senders", config.tokens.senders)):
        if name in names and report.is_sound(path):
            report.warning(path, f"it is in tokens.{option}, too: a rotation of the store's token does not end these")
