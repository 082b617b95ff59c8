"""What was written -> what it means: the Snapshot of the gate and the Settings of the process.

Here are the checks that need more than one value. Each fault is told once: a check that rests on a value
which was already found wrong keeps silent (`report.is_sound`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.config import files, issuers, routes
from proxy.config.problem import join_key, printable
from proxy.config.schema import NAME, AccessLog, Settings, Tls
from proxy.config.shape import did_you_mean
from proxy.config.units import format_duration, is_loopback
from proxy.gate.snapshot import Bounds, RateLimit, Snapshot, Timeouts, TokenRules

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from proxy.config.problem import Report
    from proxy.config.schema import Config

# bcrypt's own alphabet and layout: 22 characters of salt, 31 of digest (Provos and Mazieres, 1999).
_BCRYPT = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}", re.ASCII)
_MIN_COST, _MAX_COST = 4, 14
# Cost 10 is the default of htpasswd -B and of Prometheus' documentation.
_USUAL_COST = 10

# Five rounds of a sender's longest usual retry; under it a sender that reads its file late is locked out.
_SHORT_OVERLAP_S = 300.0
_LONG_OVERLAP_S = 30 * 86400.0
# net/http's default IdleConnTimeout with Prometheus: whoever closes first while the other sends makes an error.
_CLIENT_IDLE_S = 300.0


def build(config: Config, report: Report, path: Path, *, open_files: bool) -> tuple[Snapshot, Settings]:
    """Compile `config`, read from the absolute `path`. After a problem was reported the result means nothing."""
    base = path.parent
    users = _build_users(config, report)
    snapshot = Snapshot(
        routes=routes.build_routes(config, report),
        users=users,
        roles=_build_roles(config, report),
        token_rules=_build_token_rules(config, report),
        timeouts=_build_timeouts(config, report),
        bounds=_build_bounds(config),
        jwt_issuers=issuers.build_issuers(config, report) if open_files else (),
    )
    _check_listeners(config, report)
    settings = Settings(
        path=path,
        listen=config.listen,
        tls=_build_tls(config, report, base, open_files=open_files),
        store=_build_store(config, base),
        access_log=_build_access_log(config, report, base, open_files=open_files),
    )
    return snapshot, settings


def _check_listeners(config: Config, report: Report) -> None:
    if not config.listen and report.is_sound("listen"):
        report.problem("listen", "at least one address is needed")
    has_tls = config.tls_server_config is not None
    for index, address in enumerate(config.listen):
        path = f"listen[{index}]" if f"listen[{index}]" in report.lines else "listen"
        if address in config.listen[:index] and address.port != 0:
            report.problem(path, f"{address} is written twice")
        elif not has_tls and not is_loopback(address.host) and report.is_sound("tls_server_config"):
            if config.insecure_plaintext:
                report.warning(path, f"{address} speaks without TLS: passwords and tokens cross the network in clear")
            elif report.is_sound("insecure_plaintext"):
                report.problem(
                    path,
                    f"other machines reach {address}, and there is no TLS: write tls_server_config, listen on "
                    "127.0.0.1, or write insecure_plaintext: true",
                )
    if config.insecure_plaintext and has_tls:
        report.warning("insecure_plaintext", "without effect: there is a tls_server_config")


def _build_tls(config: Config, report: Report, base: Path, *, open_files: bool) -> Tls | None:
    written = config.tls_server_config
    if written is None:
        return None
    tls = Tls(base / written.cert_file, base / written.key_file, written.min_version)
    at = written.at
    if open_files and report.is_sound(f"{at}.cert_file", f"{at}.key_file"):
        files.check_key_pair(tls.cert_file, tls.key_file, at, report)
    return tls


def _build_store(config: Config, base: Path) -> Path | None:
    return None if config.tokens.store is None else base / config.tokens.store


def _build_access_log(config: Config, report: Report, base: Path, *, open_files: bool) -> AccessLog:
    written = config.access_log
    if written.file == "stderr":
        return AccessLog(None, written.format)
    file = base / written.file
    if open_files and not file.parent.is_dir() and report.is_sound("access_log.file"):
        report.problem("access_log.file", f"the directory {printable(file.parent)} does not exist")
    return AccessLog(file, written.format)


def _build_users(config: Config, report: Report) -> Mapping[str, tuple[bytes, ...]]:
    users = {}
    for user, hashes in config.basic_auth_users.items():
        path = join_key("basic_auth_users", user)
        # RFC 7617 2: a colon ends the user name, so nobody could log in with one in it.
        if not user or ":" in user or not user.isprintable():
            report.problem(path, "a user name is printable, not empty, and holds no ':'")
        if not hashes and report.is_sound(path):
            report.problem(path, "a bcrypt hash is missing; promgate hash-password makes one")
        for index, written in enumerate(hashes):
            at = f"{path}[{index}]" if f"{path}[{index}]" in report.lines else path
            if report.is_sound(at):
                _check_hash(written, at, report)
        users[user] = tuple(written.encode() for written in hashes)
    return users


def _check_hash(written: str, path: str, report: Report) -> None:
    match = _BCRYPT.fullmatch(written)
    if match is None:
        hint = "promgate hash-password makes one"
        if written.startswith("$2x$"):
            hint = "$2x$ marks hashes of a broken crypt; make a new one with promgate hash-password"
        elif written.startswith(("$2a$", "$2b$", "$2y$")):
            hint = "it begins like one, but is cut or altered (60 characters; did a shell or a template eat a '$'?)"
        elif written.startswith(("$", "{")):
            hint = f"this is another scheme; {hint}"
        report.problem(path, f"<secret> is not a bcrypt hash: {hint}")
        return
    cost = int(match[1])
    if not _MIN_COST <= cost <= _MAX_COST:
        report.problem(
            path,
            f"bcrypt cost {cost} is not taken; {_MIN_COST} to {_MAX_COST} is, and 10 to 12 is usual "
            "(each step doubles the time of a login)",
        )
    elif cost < _USUAL_COST:
        report.warning(path, f"bcrypt cost {cost} is quick to guess; 10 to 12 is usual")


def _build_roles(config: Config, report: Report) -> Mapping[str, frozenset[str]]:
    roles_of: dict[str, set[str]] = {}
    for role, identities in config.roles.items():
        path = join_key("roles", role)
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", role, re.ASCII) is None:
            report.problem(path, "a role is named with letters, digits, '_', '.' and '-', up to 64")
        for index, written in enumerate(identities):
            at = f"{path}[{index}]" if f"{path}[{index}]" in report.lines else path
            identity = _parse_identity(written, at, config, report)
            roles_of.setdefault(identity, set()).add(role)
    return {identity: frozenset(roles) for identity, roles in roles_of.items()}


def _parse_identity(written: str, path: str, config: Config, report: Report) -> str:
    """`written` as the gate names identities."""
    kind, colon, name = written.partition(":")
    if not report.is_sound(path):
        return written
    if kind not in {"basic", "token", "jwt"} or not colon or not name:
        report.problem(
            path, f"{written[:80]!a} is not an identity; basic:USER, token:NAME and jwt:SUBJECT are taken"
        )
    elif kind == "basic" and name not in config.basic_auth_users and report.was_read("basic_auth_users"):
        report.problem(
            path, f"no user {name[:80]!a} in basic_auth_users{did_you_mean(name, config.basic_auth_users)}"
        )
    elif kind == "token":
        try:
            NAME.parse(name)
        except ValueError as error:
            report.problem(path, str(error))
    elif kind == "jwt":
        claim, equals, value = name.partition("=")
        if equals and claim == "sub":
            return f"jwt:{value}"
        if equals and re.fullmatch(r"[a-z_]{1,16}", claim):
            report.problem(path, f"roles follow the subject of a JWT, not its claim {claim}; write jwt:SUBJECT")
    return written


def _build_token_rules(config: Config, report: Report) -> TokenRules:
    tokens = config.tokens
    overlap, longest = tokens.overlap_period, tokens.max_overlap
    if report.is_sound("tokens.overlap_period", "tokens.max_overlap"):
        if overlap > longest:
            path = "tokens.overlap_period" if "tokens.overlap_period" in report.lines else "tokens.max_overlap"
            report.problem(
                path,
                f"overlap_period ({format_duration(overlap)}) is longer than max_overlap ({format_duration(longest)})",
            )
        elif overlap < _SHORT_OVERLAP_S:
            report.warning(
                "tokens.overlap_period",
                f"{format_duration(overlap)} is short: a sender that moves to its new token later waits at 503",
            )
        if longest > _LONG_OVERLAP_S:
            report.warning("tokens.max_overlap", f"{format_duration(longest)} is long: a leaked token lives as long")
    if tokens.retry_grace == 0 and report.is_sound("tokens.retry_grace"):
        report.warning("tokens.retry_grace", "with 0s a sender that is late for a rotation drops its samples at once")
    return TokenRules(overlap, longest, tokens.retry_grace)


def _build_timeouts(config: Config, report: Report) -> Timeouts:
    written = config.timeouts
    if written.idle < _CLIENT_IDLE_S and report.is_sound("timeouts.idle"):
        report.warning(
            "timeouts.idle",
            f"{format_duration(written.idle)} is less than the 5m for which Prometheus keeps a connection: a request "
            "may meet our close, and is sent again",
        )
    return Timeouts(**{name: getattr(written, name) for name in written.options})


def _build_bounds(config: Config) -> Bounds:
    limits, guesses = config.limits, config.limits.guesses
    return Bounds(
        body_min_rate_bytes=limits.body_min_rate,
        max_connections=limits.max_connections,
        max_connections_per_ip=limits.max_connections_per_ip,
        guesses=RateLimit(guesses.rate, guesses.interval, guesses.burst, by_identity=False),
    )
