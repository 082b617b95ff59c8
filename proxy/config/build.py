"""What was written -> what it means: the Snapshot of the gate and the Settings of the process.

Here are the checks that need more than one value. Each fault is told once: a check that rests on a value
which was already found wrong keeps silent (`report.is_sound`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.config import canary, delivery, files, identities, issuers, routes, schedule
from proxy.config.control import build_console, build_login, build_renew, build_sessions, check_prefix
from proxy.config.forward_auth import build_forward_auth
from proxy.config.listeners import check_listeners
from proxy.config.people import build_people, build_session_times
from proxy.config.problem import printable
from proxy.config.schema import AccessLog, Settings, Tls
from proxy.config.units import Address, format_duration
from proxy.config.users import build_users
from proxy.config.write_tokens import build_write_tokens
from proxy.gate.snapshot import Bounds, ClientTrust, RateLimit, Snapshot, Timeouts, TokenRules

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.config.problem import Report
    from proxy.config.schema import Config
    from proxy.config.web_config import TlsServerConfig
    from proxy.gate.forwarded import Proxies

# Five rounds of a sender's longest usual retry; under it a sender that reads its file late is locked out.
_SHORT_OVERLAP_S = 300.0
_LONG_OVERLAP_S = 30 * 86400.0
# net/http's default IdleConnTimeout with Prometheus: whoever closes first while the other sends makes an error.
_CLIENT_IDLE_S = 300.0


def build(config: Config, report: Report, path: Path, *, open_files: bool) -> tuple[Snapshot, Settings]:
    """Compile `config`, read from the absolute `path`. After a problem was reported the result means nothing."""
    base = path.parent
    check_listeners(config, report)
    users = build_users(config, report)
    roles = identities.build_roles(config, users, report)
    tenants = identities.build_tenants(config, users, report)
    sources = identities.build_sources(config, users, report)
    keys = {*roles, *tenants.written, *(sources.written if sources is not None else ())}
    console = build_console(config, report)
    own = (*(console.routes if console.listen is None else ()), *build_renew(config), *build_login(config))
    own += build_forward_auth(config, report)
    built = routes.build_routes(config, report, base, open_files=open_files)
    check_prefix(config, built if own else (), report)
    snapshot = Snapshot(
        routes=(*built, *routes.on_every_host(own, built)),
        console=console.routes if console.listen is not None else (),
        users=users,
        roles=roles,
        tenants=tenants,
        sources=sources,
        token_rules=_build_token_rules(config, report),
        timeouts=_build_timeouts(config, report),
        bounds=_build_bounds(config),
        trusted_proxies=_build_proxies(config, report),
        external_url=config.external_url or "",
        sessions=build_sessions(config),
        hsts=_build_hsts(config, report),
        jwt_issuers=issuers.build_issuers(config, keys, report, base) if open_files else (),
        introspection=issuers.build_introspection(config, keys, report, base, open_files=open_files),
        people=build_people(config, keys, report, base, open_files=open_files),
        session_times=build_session_times(config, report),
    )
    settings = Settings(
        path=path,
        listen=config.listen,
        tls=_build_tls(config, report, base, open_files=open_files),
        store=_build_store(config, base),
        access_log=_build_access_log(config, report, base, open_files=open_files),
        telemetry=None if config.telemetry is None else config.telemetry.listen,
        watch=config.reload.watch,
        proxy_protocol=config.proxy_protocol,
        reloads_by_http=config.reload.http,
        console_listen=console.listen,
        control_prefix=config.control_prefix.rstrip("/"),
        redirect_listen=_build_redirect(config, report),
        audit=_build_audit(config, report, base, open_files=open_files),
    )
    if config.tokens.deliver or config.tokens.canary is not None or config.tokens.senders:
        snapshot = replace(snapshot, token_rules=_with_delivery(config, snapshot, report, base, open_files=open_files))
    return snapshot, settings


def _build_redirect(config: Config, report: Report) -> tuple[Address, ...]:
    written = config.redirect_http
    if written is None:
        return ()
    if config.external_url is None and report.is_sound("external_url"):
        report.problem("redirect_http", "needs external_url: where are people sent to?")
    elif not (config.external_url or "https://").startswith("https://") and report.is_sound("external_url"):
        report.problem("external_url", "redirect_http sends people there, so it must begin with https://")
    return written.listen


def _build_hsts(config: Config, report: Report) -> bytes:
    """The field line, with its CRLF (RFC 6797 6.1)."""
    if config.hsts is None:
        return b""
    if config.tls_server_config is None and report.is_sound("hsts", "tls_server_config"):
        report.problem("hsts", "needs tls_server_config: browsers ignore it on plain http (RFC 6797 8.1)")
    below = "; includeSubDomains" if config.hsts.include_subdomains else ""
    return f"Strict-Transport-Security: max-age={config.hsts.max_age:.0f}{below}\r\n".encode()


def _with_delivery(config: Config, snapshot: Snapshot, report: Report, base: Path, *, open_files: bool) -> TokenRules:
    """Worked out last: by then it is known which routes there are, and which files something else lives from."""
    rules = canary.build_canary(config, snapshot.routes, snapshot.roles, report, base)
    if rules is not None and open_files:
        canary.check_canary_files(rules, report)
    targets = delivery.build_deliver(config, report, base, open_files=open_files)
    renewing = delivery.build_renewing(config, report)
    return replace(snapshot.token_rules, deliver=targets, canary=rules, renewing=renewing)


def _build_proxies(config: Config, report: Report) -> Proxies | None:
    if config.proxy_protocol and not config.trusted_proxies and report.is_sound("proxy_protocol", "trusted_proxies"):
        report.problem("proxy_protocol", "nobody is in trusted_proxies, so nobody's PROXY header could be believed")
    if not report.is_sound("trusted_proxies"):
        return None
    if not config.trusted_proxies:
        _check_nothing_before(config, report)
        return None
    if any(network.prefixlen == 0 for network in config.trusted_proxies):
        report.warning("trusted_proxies", "everybody is trusted: whoever reaches the listener may choose its address")
    from proxy.gate.forwarded import Proxies  # noqa: PLC0415 - ipaddress costs 3 ms that only this needs to pay

    return Proxies(config.trusted_proxies)


def _check_nothing_before(config: Config, report: Report) -> None:
    """Whether it is certain that a proxy stands before promgate, and nobody said which."""
    if (config.external_url or "").startswith("https:") and config.tls_server_config is None:
        report.warning(
            "external_url",
            "something else ends TLS, and trusted_proxies is empty: all who come through it count as one address",
        )


def _build_tls(config: Config, report: Report, base: Path, *, open_files: bool) -> Tls | None:
    written = config.tls_server_config
    if written is None:
        return None
    trust = _build_trust(written, report, base, open_files=open_files)
    pairs = [(written.at, base / written.cert_file, base / written.key_file)]
    pairs += [(each.at, base / each.cert_file, base / each.key_file) for each in written.certificates]
    for place, cert_file, key_file in pairs if open_files else ():
        if report.is_sound(f"{place}.cert_file", f"{place}.key_file"):
            files.check_key_pair(cert_file, key_file, place, report)
    (_, cert_file, key_file), *others = pairs
    return Tls(cert_file, key_file, written.min_version, trust, tuple((cert, key) for _, cert, key in others))


def _build_trust(
    written: TlsServerConfig, report: Report, base: Path, *, open_files: bool
) -> ClientTrust | None:
    at = written.at
    asks = written.client_auth_type != "NoClientCert"
    if not report.is_sound(f"{at}.client_auth_type", f"{at}.client_ca_file"):
        return None
    if asks and written.client_ca_file is None:
        report.problem(f"{at}.client_auth_type", f"{written.client_auth_type} needs client_ca_file: signed by whom?")
    for name in ("client_ca_file", "client_allowed_sans", "client_crl_file"):
        if not asks and getattr(written, name):
            report.problem(f"{at}.{name}", "without effect: with client_auth_type NoClientCert no client is asked")
    if not asks or written.client_ca_file is None:
        return None
    ca_file = base / written.client_ca_file
    crl_file = written.client_crl_file and base / written.client_crl_file
    if open_files:
        files.check_authorities(ca_file, f"{at}.client_ca_file", report)
        if crl_file:
            files.check_revocations(crl_file, f"{at}.client_crl_file", report)
    is_required = written.client_auth_type == "RequireAndVerifyClientCert"
    return ClientTrust(str(ca_file), is_required, str(crl_file or ""), frozenset(written.client_allowed_sans))


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


def _build_audit(config: Config, report: Report, base: Path, *, open_files: bool) -> Path | None:
    if config.audit is None or not report.is_sound("audit.file"):
        return None
    file = base / config.audit.file
    if config.tokens.store is None and report.is_sound("tokens.store"):
        report.problem("audit", "without tokens.store there is nothing to be recorded")
    if config.access_log.file != "stderr" and file == base / config.access_log.file:
        report.problem("audit.file", "this is the access log: the audit needs a file of its own")
    if open_files and not file.parent.is_dir():
        report.problem("audit.file", f"the directory {printable(file.parent)} does not exist")
    return file


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
    quiet = tokens.finish_when_quiet
    if quiet is not None and report.is_sound("tokens.finish_when_quiet", "tokens.overlap_period"):
        if quiet < _SHORT_OVERLAP_S:
            report.warning(
                "tokens.finish_when_quiet",
                f"{format_duration(quiet)} is short: a sender that sends less often has not moved and looks gone",
            )
        elif quiet >= overlap:
            report.warning("tokens.finish_when_quiet", "without effect: overlap_period is over before")
    return TokenRules(
        overlap,
        longest,
        tokens.retry_grace,
        rotation=schedule.build_period(config, report),
        finish_when_quiet_s=quiet,
        configured=build_write_tokens(config, report),
    )


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
    limits, guesses, per_user = config.limits, config.limits.guesses, config.limits.guesses_per_user
    return Bounds(
        body_min_rate_bytes=limits.body_min_rate,
        max_connections=limits.max_connections,
        max_connections_per_ip=limits.max_connections_per_ip,
        guesses=RateLimit(guesses.rate, guesses.interval, guesses.burst, by_identity=False),
        guesses_per_user=RateLimit(per_user.rate, per_user.interval, per_user.burst),
    )
