"""The options of a route, once: their kinds, defaults and doc lines, as `schema` has those of the rest."""

from __future__ import annotations

from typing import Any

from proxy.config.shape import REQUIRED, ListOf, Section, Table, choice, option, whole
from proxy.config.upstream import UpstreamOf
from proxy.config.words import (
    HOST,
    METHOD,
    NAME,
    NETWORK,
    PATH,
    PREFIX,
    RATE,
    SIZE,
    SPAN,
    STRIP,
    SWITCH,
    TENANT,
)


class RateLimitOf(Section):
    """Requests for each `interval`, `burst` at once (GCRA: evenly spread, no windows)."""

    rate: float = option(RATE, REQUIRED, "Requests for each `interval`.")
    interval: float = option(SPAN, "1s", "The time that `rate` counts for.")
    burst: int = option(whole(1, 1_000_000), REQUIRED, "Requests at once.")
    by: str = option(choice("identity", "ip"), "identity", "Who is counted: the identity or the IP address.")
    mode: str = option(choice("reject", "delay"), "reject", "What happens over the rate; only known peers are delayed.")
    max_delay: float | None = option(SPAN, None, "With `mode: delay`, the longest wait (10s) before a refusal.")


class ConcurrencyOf(Section):
    """Requests under way at once; one over it is refused, and nobody waits."""

    limit: int = option(whole(1, 1_000_000), REQUIRED, "Requests at once.")
    by: str = option(choice("identity", "ip"), "identity", "Who is counted: the identity or the IP address.")


class AllowRule(Section):
    """A role that may pass. A lone word is a rule for that role, and everything that it may do.

    A role with a name of your own may do all that the route takes. Ready made are `viewer` (GET, HEAD, and POST to the
    query endpoints), `silencer` (viewer, and POST and DELETE on silences), `notifier` (POST to `/api/v2/alerts`),
    `writer` (POST, on routes of kind `remote_write`) and `admin` (everything).
    """

    role: str = option(NAME, REQUIRED, "A role of `roles`; or `write`, of write tokens and of tokens with that scope.")
    methods: tuple[bytes, ...] | None = option(
        ListOf(METHOD, or_one=True), None, "Methods that the role may use here; all that it may if left out."
    )
    path: str | None = option(
        PREFIX, None, "Where it may, below the route's prefix and in whole segments: `/api/v1`. Everywhere if left out."
    )


class ExemptRule(Section):
    """A path that needs no credential. A lone word is one that anybody may GET and HEAD.

    For a reloader beside promgate: `{path: /-/reload, methods: POST, allow_from: 127.0.0.1}`.
    """

    path: str = option(PATH, REQUIRED, "Exact, below the route's prefix.")
    methods: tuple[bytes, ...] = option(
        ListOf(METHOD, or_one=True), ["GET", "HEAD"], "Methods; any but GET and HEAD need `allow_from`."
    )
    allow_from: tuple[Any, ...] = option(
        ListOf(NETWORK, or_one=True),
        [],
        "Networks whose requests need none; those that a proxy passed on (X-Forwarded-For) do. All if left out.",
    )


_WAYS = choice(
    "write_token",
    "bearer",
    "basic",
    "jwt",
    "introspection",
    "client_cert",
    "oauth2",
    "none",
)


class RouteOf(Section):
    """A prefix of the public listener. The longest prefix of whole segments wins; nothing matches by default."""

    name: str = option(NAME, REQUIRED, "How logs and metrics call the route.")
    path: str = option(
        PREFIX, REQUIRED, "Prefix in whole segments: `/prometheus` takes `/prometheus/graph`, not `/prometheusX`."
    )
    host: tuple[bytes, ...] = option(
        ListOf(HOST, or_one=True),
        [],
        "Names by which the route is reached, without port. Left out: every name that no other route claims.",
    )
    upstream: UpstreamOf = option(
        Table(UpstreamOf, short="url"), REQUIRED, "Where requests go: `http://host:port`, or a section, or several."
    )
    strip_prefix: str = option(
        STRIP,
        "false",
        "What the upstream does not see of the path: `true` is the whole of `path`, or the beginning of it: with "
        "`/prometheus`, `/prometheus/api` goes on as `/api`, and a redirect to `/x` comes back as `/prometheus/x`.",
    )
    websocket: bool = option(
        SWITCH, "false", "Let websockets through, opened by no browser's page but one of the same host. Else dropped."
    )
    kind: str = option(
        choice("plain", "remote_write"),
        "plain",
        "`remote_write`: no answer of ours makes a sender drop what it may keep (no redirect, no 408, no 429).",
    )
    methods: tuple[bytes, ...] | None = option(
        ListOf(METHOD, or_one=True), None, "Methods taken; others get 405. Left out: any but CONNECT, TRACE and TRACK."
    )
    auth: tuple[str, ...] = option(
        ListOf(_WAYS, or_one=True),
        REQUIRED,
        "Ways in: `write_token`, `bearer` (reader tokens), `basic`, `jwt`, `introspection`, `client_cert`, `oauth2` "
        "(people who logged in); or `none` alone. A token may also be shown as the password of basic auth, with any "
        "user name.",
    )
    allow: tuple[AllowRule, ...] | None = option(
        ListOf(Table(AllowRule, short="role"), or_one=True),
        None,
        "Who may pass: roles, or rules of role and methods. May be left out only where `auth` is `none`.",
    )
    unblock: tuple[str, ...] = option(
        ListOf(PREFIX, or_one=True), [], "Paths below the prefix to open, of those that are closed (docs/behaviour.md)."
    )
    exempt: tuple[ExemptRule, ...] = option(
        ListOf(Table(ExemptRule, short="path"), or_one=True),
        [],
        "Exact paths below the prefix that need no credential: `/-/healthy` of the upstream.",
    )
    allow_from: tuple[Any, ...] = option(
        ListOf(NETWORK, or_one=True), [], "Networks from which the route may be used, `10.0.0.0/8`; all if left out."
    )
    deny_from: tuple[Any, ...] = option(
        ListOf(NETWORK, or_one=True), [], "Networks from which it may not, even if `allow_from` has them."
    )
    identity_headers: bool = option(
        SWITCH, "false", "Tell the upstream who is asking: `X-Promgate-Identity` and `X-Promgate-Roles`."
    )
    tenant_header: str | None = option(
        choice("X-Scope-OrgID", "THANOS-TENANT", "X-Promgate-Tenant", but={"X-Scope-OrgId": "write X-Scope-OrgID"}),
        None,
        "Tell the upstream the tenant of who is asking, from `tenants`; an identity without one gets 403.",
    )
    tenant: str | None = option(TENANT, None, "With `tenant_header`, the tenant of everybody on this route.")
    rate_limit: RateLimitOf | None = option(Table(RateLimitOf), None, "Limit for each peer on this route.")
    concurrency: ConcurrencyOf | None = option(
        Table(ConcurrencyOf), None, "Limit of requests at once for each peer on this route."
    )
    max_body_bytes: int = option(SIZE, "32MB", "Largest request body; a larger one gets 413.")
