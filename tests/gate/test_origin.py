"""Cross-site requests: a browser sends a password or a certificate along with whatever any page makes it ask."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.gate.credentials import ShownCertificate
from proxy.gate.decision import Deny, Forward, Identity, Reason
from proxy.gate.snapshot import Way
from tests.gate.play import (
    AT,
    GRAFANA_SECRET,
    HASHES,
    IP,
    NOW,
    OPEN,
    READ,
    SENDER_SECRET,
    SNAPSHOT,
    WRITE,
    answered,
    ask,
    basic,
    bearer,
    claims,
    gate,
    jwt,
)  # fmt: skip
from tests.wire.play import admit

ROUTES = (
    WRITE,
    replace(READ, ways=READ.ways | {Way.CLIENT_CERT}, rules=(replace(READ.rules[1], role="admin"),)),
    OPEN,
)
ROLES = {**SNAPSHOT.roles, "cert:CN=ann": frozenset({"admin"}), "token:grafana": frozenset({"admin"}),
         "jwt:carol": frozenset({"admin"})}  # fmt: skip
CERTIFICATE = ShownCertificate(("cert:CN=ann",), NOW + 60)


def put(shown, *fields, method="POST", path="/prometheus/-/x", host="noc.example", facts=HASHES[0]):
    lines = "".join(f"{line}\r\n" for line in fields)
    request = admit(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())
    made = gate(routes=ROUTES, roles=ROLES, external_url="https://public.example")
    decision, questions = ask(made, request, shown)
    return made.decide(request, shown, IP, AT, NOW, dict.fromkeys(questions, facts)) if questions else decision


FOREIGN = [
    ("Origin: https://evil.example",),
    ("Origin: null",),
    ("Origin: https://noc.example:8443",),
    ("Origin: https://noc.example.evil.example",),
    ("ORIGIN: https://evil.example",),
    ("Sec-Fetch-Site: cross-site",),
    ("sec-fetch-site: same-site",),
    ("Sec-Fetch-Site: same-origin", "Origin: https://evil.example"),
    ("Sec-Fetch-Site: cross-site", "Origin: https://noc.example"),
    ("Origin: https://noc.example", "Origin: https://evil.example"),
]
OWN = [
    (),
    ("Referer: https://evil.example/origin",),
    ("Origin: https://noc.example",),
    ("Origin: http://NOC.example:80",),
    ("Origin: https://public.example",),
    ("Sec-Fetch-Site: same-origin", "Origin: https://noc.example"),
    ("Sec-Fetch-Site: none",),
]


@pytest.mark.parametrize("shown", [basic("ann", b"right"), CERTIFICATE], ids=["basic", "certificate"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(("fields", "passes"), [(one, False) for one in FOREIGN] + [(one, True) for one in OWN])
def test_what_a_browser_sends_along_is_not_taken_from_another_s_page(shown, method, fields, passes):
    decision = put(shown, *fields, method=method)
    assert isinstance(decision, Forward) is passes
    if not passes:
        assert (decision.reason, answered(decision)[0]) == (Reason.FOREIGN_ORIGIN, 403)
        assert isinstance(decision.identity, Identity)


@pytest.mark.parametrize("shown", [basic("ann", b"right"), CERTIFICATE], ids=["basic", "certificate"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_only_reads_may_be_asked_by_a_link(shown, method):
    assert isinstance(put(shown, *FOREIGN[0], *FOREIGN[5], method=method), Forward)


def test_a_wrong_password_is_told_nothing_more():
    assert put(basic("ann", b"wrong"), *FOREIGN[0], facts=False).reason is Reason.BAD_CREDENTIAL


@pytest.mark.parametrize(
    ("shown", "path"),
    [
        (bearer(GRAFANA_SECRET), "/prometheus/-/x"),
        (bearer(SENDER_SECRET), "/prometheus/api/v1/write"),
        (basic("x", SENDER_SECRET), "/prometheus/api/v1/write"),
        (None, "/open/x"),
        (basic("ann", b"right"), "/open/x"),
    ],
)
def test_no_browser_sends_these_by_itself(shown, path):
    decision = put(shown, *FOREIGN[0], *FOREIGN[5], path=path)
    assert not isinstance(decision, Deny), decision


def test_a_jwt_needs_no_page():
    assert isinstance(put(jwt(), *FOREIGN[0], facts=claims()), Forward)
