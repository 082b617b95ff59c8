"""Whoever can be named in `roles` and `tenants`, each come by its own way: they have the role, and the tenant.

What is shown is judged by the code that judges it in a server: signatures by `login.jwt`, a provider's words by
`login.introspection` and `login.oidc_person`, the names of a certificate by `gate.certificate`. Of GitHub's the keys
are given, as `tests/login/test_github.py` holds that they are found.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml

from proxy.config.read import load
from proxy.gate.ask import Claims, VerifyJwt
from proxy.gate.certificate import read_certificate
from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Need, Reason
from proxy.gate.session import Session, provider_terms
from proxy.gate.snapshot import ClientTrust, Snapshot
from proxy.login.introspection import claims_of
from proxy.login.jwt import JwtVerifier
from proxy.login.oidc_person import build_person
from tests.config.test_access import HASH
from tests.gate.play import AT, GRAFANA, GRAFANA_SECRET, IP, NOW, SENDER, SENDER_SECRET, basic, bearer, memory
from tests.login.issuer import Issuer
from tests.wire.play import admit

if TYPE_CHECKING:
    from proxy.gate.memory import Memory

ID = b"I" * 43
MAIL = {"sub": "1", "email": "Carol@example.net", "email_verified": True}


class Kept(NamedTuple):
    snapshot: Snapshot
    memory: Memory
    gate: Gate


def _token(kept, secret):
    return None, bearer(secret), None


def _basic(kept, user):
    return None, basic(user, b"x"), b"$2b$10$ann"


def _jwt(kept, claims):
    text = Issuer().token(claims=claims)
    verifier = JwtVerifier(kept.snapshot.jwt_issuers)
    try:
        answer = asyncio.run(verifier.verify(VerifyJwt(text)))
    finally:
        verifier.close()
    assert isinstance(answer, Claims)
    return None, bearer(text), answer


def _introspection(kept, said):
    told = {"active": True, "exp": NOW + 60, "client_id": "agent", **said}
    return None, bearer(b"opaque"), claims_of(told, kept.snapshot.introspection)


def _certificate(kept, sans):
    told = {"subject": ((("commonName", "grafana"),),), "subjectAltName": tuple(sans)}
    return None, read_certificate(told, NOW + 60, ClientTrust("ca", is_required=False)), None


def _oidc(kept, claims):
    provider = next(one for one in kept.snapshot.people if one.name == "oidc")
    person = build_person(provider, claims, {}, {"refresh_token": "", "id_token": ""}, math.inf)
    return (provider, person.granted), None, None


def _github(kept, keys):
    provider = next(one for one in kept.snapshot.people if one.name == "github")
    return (provider, ("github:user:carol", *sorted(keys & provider.known))), None, None


#: Who is written; who that is; who comes by the same way and is not.
WHO = [
    ("token:grafana", _token, GRAFANA_SECRET, SENDER_SECRET),
    ("token:sender", _token, SENDER_SECRET, GRAFANA_SECRET),
    ("basic:ann", _basic, "ann", "bob"),
    ("jwt:carol", _jwt, {}, {"sub": "dave"}),
    ("jwt:sub=a=b", _jwt, {"sub": "a=b"}, {"sub": "a"}),
    ("jwt:scope=metrics.read", _jwt, {"scope": "openid metrics.read"}, {"scope": "metrics.reader"}),
    ("jwt:scp=metrics.read", _jwt, {"scp": ["metrics.read", "x"]}, {"scope": "metrics.read"}),
    ("jwt:groups=sre", _jwt, {"groups": ["dev", "sre"]}, {"groups": "dev,sre"}),
    ("jwt:realm_access.roles=ops", _jwt, {"realm_access": {"roles": ["ops"]}}, {"realm_access": ["ops"]}),
    ("jwt:https://a.example/team=x y", _jwt, {"https://a.example/team": "x y"}, {"https://a.example/team": "x"}),
    ("introspection:carol", _introspection, {"sub": "carol"}, {"sub": "dave"}),
    ("introspection:client_id=agent", _introspection, {}, {"client_id": "other"}),
    ("introspection:client_id=agent", _introspection, {"sub": "service"}, {"sub": "service", "client_id": "other"}),
    ("introspection:scope=metrics.write", _introspection, {"scope": "metrics.write"}, {"scope": "metrics"}),
    ("introspection:groups=sre", _introspection, {"groups": ["sre"]}, {"groups": [["sre"]]}),
    ("cert:CN=grafana", _certificate, [], None),
    ("cert:SAN=g.example.net", _certificate, [("DNS", "g.example.net")], [("DNS", "h.example.net")]),
    ("cert:SAN=spiffe://example/agent", _certificate, [("URI", "spiffe://example/agent")], [("URI", "spiffe://example/a")]),
    ("cert:SAN=10.0.0.7", _certificate, [("IP Address", "10.0.0.7")], [("DNS", "10.0.0.70")]),
    ("cert:SAN=ann@example.net", _certificate, [("email", "ann@example.net")], []),
    ("oidc:user:carol@example.net", _oidc, MAIL, MAIL | {"email_verified": "true"}),
    ("oidc:sub:1", _oidc, MAIL, MAIL | {"sub": "2"}),
    ("oidc:domain:example.net", _oidc, MAIL, MAIL | {"email": "carol@example.net.evil.org"}),
    ("oidc:group:sre", _oidc, {"sub": "1", "groups": ["sre", "dev"]}, {"sub": "1", "groups": "sre,dev"}),
    ("oidc:any", _oidc, {"sub": "1"}, None),
    ("github:user:Carol", _github, set(), None),
    ("github:id:7", _github, {"github:id:7"}, {"github:id:8"}),
    ("github:org:example", _github, {"github:org:example"}, {"github:org:example2"}),
    ("github:team:example/sre", _github, {"github:team:example/sre"}, {"github:org:example"}),
    ("github:any", _github, {"github:any"}, None),
]  # fmt: skip


for_each = pytest.mark.parametrize(
    ("who", "way", "is_it", "is_not"), WHO, ids=[f"{one[0]}-{index}" for index, one in enumerate(WHO)]
)


def _gate(directory, roles, tenants):
    """A route for whoever has the role `own`, that tells the tenant; and a write route for none of them."""
    config = {
        "external_url": "https://noc.example",
        "tls_server_config": {
            "cert_file": "server.crt", "key_file": "server.key", "client_auth_type": "VerifyClientCertIfGiven",
            "client_ca_file": "server.crt",
        },
        "basic_auth_users": {"ann": HASH, "bob": HASH},
        "tokens": {"store": "sqlite:///promgate.db"},
        "jwt": {"issuer": "https://idp", "audience": "promgate", "jwks": Issuer().jwks()},
        "introspection": {"issuer": "https://idp", "url": "https://idp/i", "client_id": "p", "client_secret": "s"},
        "oauth2": [
            {"issuer": "https://idp.example", "client_id": "promgate", "client_secret": "x"},
            {"provider": "github", "client_id": "promgate", "client_secret": "x"},
        ],
        "roles": roles,
        "tenants": tenants,
        "routes": [
            {
                "name": "r", "path": "/", "upstream": "http://127.0.0.1:1", "allow": ["own"],
                "tenant_header": "X-Scope-OrgID", "identity_headers": True,
                "auth": ["basic", "bearer", "write_token", "jwt", "introspection", "client_cert", "oauth2"],
            }
        ],
    }  # fmt: skip
    file = directory / "promgate.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    file.chmod(0o600)
    snapshot, known = load(file).snapshot, memory(GRAFANA, SENDER)
    return Kept(snapshot, known, Gate(snapshot, known))


@pytest.fixture
def directory(tmp_path, certs):
    for name in ("server.crt", "server.key"):
        (tmp_path / name).symlink_to(certs / name)
    return tmp_path


def _come(kept, way, shown):
    """What becomes of a GET by who shows this; with the fields of a client who claims more."""
    person, credential, answer = way(kept, shown)
    fields = [b"X-Scope-OrgID: all", b"x_scope_orgid: all", b"X-Promgate-Roles: own"]
    if person is not None:
        _log_in(kept, *person)
        fields.append(b"Cookie: __Host-promgate=" + ID)
    head = admit(b"\r\n".join([b"GET /x HTTP/1.1", b"Host: noc.example", *fields, b"", b""]))
    assert b"all" not in head.fields
    decision = kept.gate.decide(head, credential, IP, AT, NOW)
    if isinstance(decision, Need):
        decision = kept.gate.decide(head, credential, IP, AT, NOW, {decision.question: answer})
    return decision


def _log_in(kept, provider, granted):
    session = Session(hashlib.sha256(ID).digest(), granted[0], provider.name, provider_terms(provider), NOW, granted)
    kept.memory.sessions.put(session, NOW)


@for_each
def test_whoever_can_be_named_has_role_and_tenant(directory, who, way, is_it, is_not):
    decision = _come(_gate(directory, {"own": who}, {who: "team-a"}), way, is_it)
    assert isinstance(decision, Forward)
    assert "own" in decision.identity.roles
    assert decision.told.endswith(b"\r\nX-Scope-OrgID: team-a\r\n")
    assert decision.told.count(b"X-Scope-OrgID") == 1
    if is_not is not None:
        other = _come(_gate(directory, {"own": who}, {who: "team-a"}), way, is_not)
        assert (type(other), other.reason) == (Deny, Reason.NOT_ALLOWED)


@for_each
def test_whoever_has_a_role_has_its_tenant(directory, who, way, is_it, is_not):
    assert _come(_gate(directory, {"own": who}, {"role:own": "b"}), way, is_it).told.endswith(b"X-Scope-OrgID: b\r\n")
    other = _come(_gate(directory, {"own": who, "new": "token:x"}, {"role:new": "b"}), way, is_it)
    assert (type(other), other.reason) == (Deny, Reason.NO_TENANT)


@pytest.mark.parametrize(
    ("tenants", "told"),
    [
        ({"jwt:groups=sre": "a", "role:own": "b", "jwt:carol": "c"}, b"a"),
        ({"role:own": "b", "jwt:groups=sre": "a", "jwt:carol": "c"}, b"b"),
        ({"jwt:carol": "c", "role:own": "b", "jwt:groups=sre": "a"}, b"c"),
        ({"jwt:groups=dev": "d", "role:two": "e", "jwt:groups=sre": "a|b"}, b"e"),
        ({"jwt:groups=dev": "d", "jwt:groups=sre": "a|b", "role:two": "e"}, b"a|b"),
    ],
)
def test_of_several_tenants_the_first_in_the_file_counts(directory, tenants, told):
    gate = _gate(directory, {"own": "jwt:groups=sre", "two": "jwt:carol"}, tenants)
    assert _come(gate, _jwt, {"groups": ["x", "sre"]}).told.endswith(b"X-Scope-OrgID: " + told + b"\r\n")
