"""The proof of a new token: `tokens.canary`, with what can be said from the rest of the configuration where it is
left out.

The rule: what is worked out here is what a sender on this machine would use. What only an operator knows (the name in
the certificate, the authorities, who may read) is asked for and never guessed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.config import files
from proxy.config.delivery import ClientTlsOf
from proxy.config.identities import WRITE
from proxy.config.problem import join_key
from proxy.config.shape import REQUIRED, Section, Table, option
from proxy.config.units import is_loopback
from proxy.config.words import ENDPOINT, FILE, SPAN, TEXT
from proxy.gate.authorize import find_rule
from proxy.gate.routing import Router
from proxy.gate.snapshot import RouteKind, Way
from proxy.gate.tenants import ROLE
from proxy.tokens.targets import CanaryRules

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.config.problem import Report
    from proxy.config.schema import Config
    from proxy.gate.snapshot import Route

_WRITES = ("/api/v1/write", "/api/v1/push")
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


class ReaderLoginOf(Section):
    """A user of `basic_auth_users` that may query."""

    username: str = option(TEXT, REQUIRED, "Name.")
    password_file: str = option(FILE, REQUIRED, "File with the password, read for each canary.")


class ReaderTokenOf(Section):
    """A reader token, or a JWT, that may query."""

    credentials_file: str = option(FILE, REQUIRED, "File with the token, read for each canary.")


class CanaryOf(Section):
    """A new token is proven by a sample that it pushes through the public listener and that a reader gets back.

    Only then it is delivered; a token that fails is revoked, and nobody has had it. docs/delivery.md tells the steps.
    """

    url: str | None = option(
        ENDPOINT, None, "Where to push, as senders do. Left out: the first `remote_write` route at the first `listen`."
    )
    query_url: str | None = option(
        ENDPOINT, None, "Where instant queries are answered. Left out: `url` with `/api/v1/query` for `/api/v1/write`."
    )
    tls_config: ClientTlsOf | None = option(Table(ClientTlsOf), None, "How the listener's certificate is judged.")
    basic_auth: ReaderLoginOf | None = option(Table(ReaderLoginOf), None, "Who queries: a user.")
    authorization: ReaderTokenOf | None = option(Table(ReaderTokenOf), None, "Who queries: the holder of a token.")
    timeout: float = option(SPAN, "20s", "For all of it. Who says `not now` (5xx, 429) is asked again within it.")


def build_canary(
    config: Config, routes: tuple[Route, ...], roles: Mapping[str, frozenset[str]], report: Report, base: Path
) -> CanaryRules | None:
    """The rules of the canary, or None where there is to be none. `base`: where relative paths start."""
    written = config.tokens.canary
    if written is None or not report.is_sound("listen", "routes", f"{written.at}.url", f"{written.at}.query_url"):
        return None
    pushing = next((route for route in routes if _takes_pushes(route)), None)
    push_url = _push_url(written, pushing, config, report) if written.url is None else written.url
    query_url = _query_url(written, push_url, report) if written.query_url is None else written.query_url
    if not push_url or not query_url:
        return None
    _check_clear(written, push_url, query_url, config, report)
    _check_sources(push_url, config, report)
    path = urlsplit(query_url).path.encode()
    reading = Router(routes).find(path)
    if written.query_url is None:
        _check_reading(written, reading, path.decode(), report)
    tls, basic, bearer = written.tls_config, written.basic_auth, written.authorization
    if basic is not None and bearer is not None:
        report.problem(bearer.at, "basic_auth and authorization exclude each other; write one of them")
    name = "" if written.url is not None else _public_name(pushing, config)
    return CanaryRules(
        push_url,
        query_url,
        ca_file="" if tls is None or tls.ca_file is None else str(base / tls.ca_file),
        server_name=tls.server_name.decode() if tls is not None and tls.server_name is not None else name,
        credentials_file="" if bearer is None else str(base / bearer.credentials_file),
        username="" if basic is None else basic.username,
        password_file="" if basic is None else str(base / basic.password_file),
        timeout_s=written.timeout,
        readers=frozenset() if reading is None else _readers(reading, path, roles),
    )


def check_canary_files(rules: CanaryRules, report: Report) -> None:
    """What would keep a canary from being sent; told when the configuration is read by who sends it."""
    at = "tokens.canary"
    if rules.ca_file and report.is_sound(f"{at}.tls_config"):
        files.check_authorities(Path(rules.ca_file), f"{at}.tls_config.ca_file", report)
    for path, option_name in (
        (rules.credentials_file, "authorization.credentials_file"),
        (rules.password_file, "basic_auth.password_file"),
    ):
        if path and report.is_sound(f"{at}.{option_name}"):
            files.check_secret(Path(path), f"{at}.{option_name}", report)


def _takes_pushes(route: Route) -> bool:
    return route.kind is RouteKind.REMOTE_WRITE and Way.WRITE_TOKEN in route.ways


def _push_url(written: CanaryOf, route: Route | None, config: Config, report: Report) -> str:
    address = next((address for address in config.listen if address.port != 0), None)
    if route is None:
        report.problem(written.at, "no route of kind remote_write takes write_token; write the url of one")
    elif address is None or config.proxy_protocol:
        why = "each connection begins with a PROXY header" if address else "the port of the listener is not known"
        report.problem(written.at, f"url is needed: {why}; write the one that senders use")
    else:
        scheme = "http" if config.tls_server_config is None else "https"
        host = f"[{address.host}]" if ":" in address.host else address.host
        prefix = route.path.rstrip("/")
        path = prefix if prefix.endswith(_WRITES) else f"{prefix}{_WRITES[0]}"
        return f"{scheme}://{_EVERYWHERE.get(address.host, host)}:{address.port}{path}"
    return ""


def _public_name(route: Route | None, config: Config) -> str:
    """How senders call the listener, which we reach by loopback: the route's host, else that of `external_url`."""
    if route is not None and route.hosts:
        return min(route.hosts).decode()
    return urlsplit(config.external_url or "").hostname or ""


def _query_url(written: CanaryOf, push_url: str, report: Report) -> str:
    if push_url.endswith(_WRITES[0]):
        return f"{push_url.removesuffix(_WRITES[0])}/api/v1/query"
    if push_url:
        report.problem(written.at, f"query_url is needed: it does not follow from {push_url}")
    return ""


def _check_clear(written: CanaryOf, push_url: str, query_url: str, config: Config, report: Report) -> None:
    for name, url in (("url", push_url), ("query_url", query_url)):
        where = urlsplit(url)
        if where.scheme == "http" and not is_loopback(where.hostname or "") and not config.insecure_plaintext:
            report.problem(f"{written.at}.{name}", "the token would cross the network in clear; write https://")


def _check_sources(push_url: str, config: Config, report: Report) -> None:
    """A canary comes from here. By loopback that is an address that no network of senders has in it."""
    host = (urlsplit(push_url).hostname or "").replace("localhost", "127.0.0.1")
    if not is_loopback(host) or not report.is_sound("allowed_sources"):
        return
    if config.allowed_sources:
        from proxy.gate.addresses import Addresses  # noqa: PLC0415 - ipaddress costs 3 ms that only this needs to pay
    readers = {each for identities in config.roles.values() for each in identities}
    for key, networks in config.allowed_sources.items():
        sends = key == f"{ROLE}{WRITE}" or (key.startswith("token:") and key not in readers)
        if sends and not Addresses(networks).admit(host):
            at = join_key("allowed_sources", key)
            report.warning(at, f"canaries come from {host}: add it, or no rotation ends well")


def _check_reading(written: CanaryOf, reading: Route | None, path: str, report: Report) -> None:
    """A default that leads nowhere is told here, not by the first rotation."""
    if reading is None or reading.kind is RouteKind.REMOTE_WRITE:
        report.problem(written.at, f"no route answers queries at {path}; write query_url")
    elif reading.ways != {Way.NONE} and written.basic_auth is None and written.authorization is None:
        report.problem(written.at, f"a reader is needed for route {reading.name}: write basic_auth or authorization")


def _readers(reading: Route, path: bytes, roles: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The reader tokens that may query on this route."""
    if Way.BEARER not in reading.ways:
        return frozenset()
    names = (identity.removeprefix("token:") for identity in roles if identity.startswith("token:"))
    return frozenset(name for name in names if find_rule(reading.rules, roles[f"token:{name}"], b"GET", path))
