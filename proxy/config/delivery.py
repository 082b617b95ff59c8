"""Where the tokens of each name go: `tokens.deliver`, compiled into targets, or told as a fault.

The rule: each place gets the token of one name, and no place is a file that something else lives from. What a rotation
opens itself (keys, authorities) is kept as a path: a command of another user may not be allowed to read it now.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.config import files
from proxy.config.problem import join_key, printable
from proxy.config.shape import ListOf, Section, Table, option
from proxy.config.units import is_loopback
from proxy.config.words import ENDPOINT, FILE, HOST, NAME, SPAN, TEXT, VARIABLE
from proxy.tokens.targets import CommandTarget, FileTarget, Target, WebhookTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.config.problem import Report
    from proxy.config.schema import Config

_KINDS = ("file", "command", "webhook")
#: Option -> the kinds that have it.
_BELONGS = {
    "environment": ("command",),
    "secret_file": ("webhook",),
    "tls_config": ("webhook",),
    "timeout": ("command", "webhook"),
}
#: What SQLite and promgate keep beside the store.
_BESIDE_STORE = ("", "-wal", "-shm", "-journal")


class ClientTlsOf(Section):
    """How the server that promgate asks is judged; its certificate is always verified."""

    ca_file: str | None = option(FILE, None, "Authorities that sign its certificate; left out: the system's.")
    server_name: bytes | None = option(HOST, None, "The name in its certificate, if that is not the host of the URL.")


class TargetOf(Section):
    """One place where a new token is put: one of `file`, `command` and `webhook`. docs/delivery.md tells of each."""

    file: str | None = option(
        FILE, None, "File that the sender reads, replaced in one step: it keeps owner and mode, a new one is 0600."
    )
    command: tuple[str, ...] | None = option(
        ListOf(TEXT),
        None,
        "Program and arguments, no shell. It reads the token from its standard input; exit code 0 is the receipt.",
    )
    environment: tuple[str, ...] | None = option(
        ListOf(VARIABLE),
        None,
        "With `command`: names of promgate's own environment variables that it gets beside PATH, HOME, LANG and TZ.",
    )
    webhook: str | None = option(
        ENDPOINT, None, "HTTPS endpoint that gets a signed POST with the token; an answer of 2xx is the receipt."
    )
    secret_file: str | None = option(
        FILE, None, "With `webhook`: the key of the signature, at least 24 bytes, or `whsec_` and its base64."
    )
    tls_config: ClientTlsOf | None = option(Table(ClientTlsOf), None, "With `webhook`: how its certificate is judged.")
    timeout: float | None = option(SPAN, None, "With `command` and `webhook`: how long it may take (30s).")


def build_deliver(config: Config, report: Report, base: Path, *, open_files: bool) -> Mapping[str, tuple[Target, ...]]:
    """Name -> its targets, in the order of the file. `base`: where relative paths start."""
    taken = _files_in_use(config, report, base)
    built: dict[str, tuple[Target, ...]] = {}
    for name, written in config.tokens.deliver.items():
        at = join_key("tokens.deliver", name)
        _check_name(name, at, report)
        if not written and report.is_sound(at):
            report.problem(at, "at least one target is needed; or take the name away")
        targets: list[Target] = []
        for each in written:
            target = _build_target(each, report, base, open_files=open_files)
            if target is None:
                continue
            place = _place(target, name)
            if place in taken:
                report.problem(each.at, f"{printable(target.target)} cannot be a target: {taken[place]}")
            taken.setdefault(place, f"{name} has it already, in line {report.line_of(each.at)}")
            targets.append(target)
        built[name] = tuple(targets)
    if built and config.tokens.store is None and report.is_sound("tokens.store"):
        report.problem("tokens.deliver", "there are no tokens to deliver without tokens.store")
    return built


def build_renewing(config: Config, report: Report) -> frozenset[str]:
    """Names whose one sender fetches its token itself."""
    for name in config.tokens.senders:
        at = join_key("tokens.senders", name)
        _check_name(name, at, report)
        if name in config.tokens.deliver and report.is_sound(at):
            report.problem(at, "its token is delivered already; take the name out of tokens.deliver or tokens.senders")
    if config.tokens.senders and config.tokens.store is None and report.is_sound("tokens.store"):
        report.problem("tokens.senders", "there are no tokens to fetch without tokens.store")
    return frozenset(config.tokens.senders)


def _check_name(name: str, at: str, report: Report) -> None:
    try:
        NAME.parse(name)
    except ValueError as error:
        report.problem(at, str(error))


def _place(target: Target, name: str) -> str:
    """A file takes one token. A program and an endpoint are told the name, and may serve several."""
    return f"file:{Path(target.path).resolve()}" if isinstance(target, FileTarget) else f"{name} {target.target}"


def _files_in_use(config: Config, report: Report, base: Path) -> dict[str, str]:
    """Files that a token must not be written over -> what they are."""
    store = [] if config.tokens.store is None else [base / f"{config.tokens.store}{end}" for end in _BESIDE_STORE]
    used = {f"file:{path.resolve()}": "it belongs to the token store" for path in store}
    read = [*report.files, *(base / name for name in report.names)]
    used |= {f"file:{path.resolve()}": "the configuration reads it" for path in read}
    if config.access_log.file != "stderr":
        used[f"file:{(base / config.access_log.file).resolve()}"] = "it is the access log"
    return used


def _build_target(written: TargetOf, report: Report, base: Path, *, open_files: bool) -> Target | None:
    at = written.at
    given = [kind for kind in _KINDS if getattr(written, kind) is not None]
    if not report.is_sound(*(f"{at}.{kind}" for kind in _KINDS)):
        return None
    if len(given) != 1:
        if report.is_sound(at):
            report.problem(at, f"exactly one of {', '.join(_KINDS)} is wanted in a target")
        return None
    for option_name, kinds in _BELONGS.items():
        if getattr(written, option_name) is not None and given[0] not in kinds:
            report.problem(f"{at}.{option_name}", f"has no meaning with {given[0]}")
    timeout_s = 30.0 if written.timeout is None else written.timeout
    if written.file is not None:
        return _build_file(base / written.file, f"{at}.file", report, open_files=open_files)
    if written.command is not None:
        if not written.command:
            report.problem(f"{at}.command", "a program is wanted: [/usr/local/bin/put-token, ARGUMENT]")
            return None
        return CommandTarget(written.command, timeout_s, written.environment or ())
    return _build_webhook(written, timeout_s, report, base, open_files=open_files)


def _build_file(path: Path, at: str, report: Report, *, open_files: bool) -> FileTarget:
    if open_files:
        try:
            mode = path.parent.stat().st_mode
        except OSError as error:
            report.warning(at, f"{printable(path.parent)} cannot be looked at: {error.strerror}; a delivery would fail")
        else:
            if mode & stat.S_IWOTH:
                shown = f"{printable(path.parent)} (mode {stat.S_IMODE(mode):04o})"
                report.problem(at, f"anybody on this machine can write into {shown}; choose the sender's own directory")
    return FileTarget(str(path))


def _build_webhook(
    written: TargetOf, timeout_s: float, report: Report, base: Path, *, open_files: bool
) -> WebhookTarget | None:
    assert written.webhook is not None
    at, tls = written.at, written.tls_config
    where = urlsplit(written.webhook)
    if where.scheme != "https" and not is_loopback(where.hostname or ""):
        report.problem(f"{at}.webhook", "the token would cross the network in clear; write https://")
    if written.secret_file is None:
        if report.is_sound(f"{at}.secret_file"):
            report.problem(at, "a webhook needs secret_file: its receiver must be able to tell us from anybody else")
        return None
    ca_file = "" if tls is None or tls.ca_file is None else str(base / tls.ca_file)
    if open_files and report.is_sound(f"{at}.secret_file"):
        files.check_secret(base / written.secret_file, f"{at}.secret_file", report)
    if open_files and ca_file and tls is not None and report.is_sound(f"{tls.at}.ca_file"):
        files.check_authorities(Path(ca_file), f"{tls.at}.ca_file", report)
    server_name = "" if tls is None or tls.server_name is None else tls.server_name.decode()
    return WebhookTarget(written.webhook, str(base / written.secret_file), ca_file, server_name, timeout_s)
