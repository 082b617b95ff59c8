"""Client certificates over real handshakes: who is heard, who is not, and what a change of trust does."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from proxy.gate.forwarded import Proxies
from proxy.gate.snapshot import Bounds, ClientTrust, RateLimit, Route, RouteKind, Rule, Telling, Upstream, Way
from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.certificates import Certificates
from proxy.pki.context import PairError, build_server_context
from proxy.pki.watch import CertWatch, TrustWatch
from tests.kit.revocations import revoke
from tests.relay.stage import OK, answering, both_loops, get, on_a_loop, stage, until, upstream
from tests.relay.tls_peer import Peer as Handshake
from tests.relay.tls_peer import trusting

POLL_S = 0.02


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Authorities `ours` and `other`; in ours grafana, old, soon (not valid yet), gone (revoked), server-only."""
    directory = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC)
    for name in ("ours", "other"):
        made = directory / name
        make_authority(made, now - timedelta(days=30))
        issue(made, Leaf("localhost", addresses=["127.0.0.1"]), now)
        for leaf in ("grafana", "gone"):
            issue(made, Leaf(leaf, dns=[f"{leaf}.example.net"], server=False, client=True), now)
        issue(made, Leaf("old", server=False, client=True, days=1), now - timedelta(days=10))
        issue(made, Leaf("soon", server=False, client=True), now + timedelta(days=10))
        issue(made, Leaf("server-only"), now)
    revoke(directory / "ours", ["gone"], now)
    return directory


def trust(pki, **changes):
    return ClientTrust(str(pki / "ours" / "ca.crt"), is_required=True)._replace(**changes)


def certified_routes(port):
    """`/grafana` for the certificate of that name, `/write` and `/told` for it too, `/open` for all who are heard."""
    there = Upstream("127.0.0.1", port)
    ways, rules = frozenset({Way.CLIENT_CERT}), (Rule("viewer"),)
    return (
        Route("grafana", "/grafana", there, ways=ways, rules=rules),
        Route("write", "/write", there, RouteKind.REMOTE_WRITE, ways, rules, frozenset({b"POST"})),
        Route("slow", "/slow", there, ways=ways, rules=rules, rate_limit=RateLimit(1, 2.0, 1, max_delay_s=60.0)),
        Route("open", "/open", there, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),)),
        Route("told", "/told", there, ways=ways, rules=rules, telling=Telling(identity=True)),
        Route(
            "own", "/own", there, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),), telling=Telling(quoted=True)
        ),
    )


@contextlib.asynccontextmanager
async def relaying(pki, a_trust, bounds=None):
    """A relay with TLS whose certificate and trust are watched."""
    pair = pki / "ours" / "localhost.crt", pki / "ours" / "localhost.key"
    certificates = Certificates([CertWatch(*pair, ssl.TLSVersion.TLSv1_2)], TrustWatch(a_trust), poll_s=POLL_S)
    roles = {"cert:CN=grafana": frozenset({"viewer"}), "cert:CN=prometheus": frozenset({"viewer"})}
    async with upstream(answering(OK)) as origin:
        change = lambda snapshot: replace(snapshot, roles=roles, routes=certified_routes(origin.port))  # noqa: E731
        async with stage(origin.port, context=certificates.load(), change=change, bounds=bounds) as relay:
            relay.context.trust = a_trust
            relay.origin = origin
            watching = asyncio.create_task(certificates.run(relay.listeners.use))
            try:
                yield relay
            finally:
                watching.cancel()


class Client:
    """One kept-alive connection, with the certificate `name` of `authority`, or none."""

    def __init__(self, relay, pki, name=None, authority="ours"):
        self._context = ssl.create_default_context(cafile=pki / "ours" / "ca.crt")
        if name is not None:
            directory = Path(authority) if Path(authority).is_absolute() else pki / authority
            self._context.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
        self._port = relay.port

    async def __aenter__(self):
        opened = asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)
        self._reader, self._writer = await opened
        return self

    async def __aexit__(self, *_):
        self._writer.transport.abort()

    async def ask(self, path="/grafana", method="GET", *fields):
        """The status; 0 when the connection is over. In TLS 1.3 a refusal of the certificate comes with the answer."""
        try:
            self._writer.write(get(path, *fields, method=method))
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            return 0
        return int(head.split(b" ")[1])


async def asked(relay, pki, *who, path="/grafana"):
    try:
        async with Client(relay, pki, *who) as client:
            return await client.ask(path)
    except OSError:
        return 0


@both_loops
@pytest.mark.parametrize(
    ("who", "grafana", "open_"),
    [
        (("grafana",), 200, 200),
        ((), 0, 0),
        (("grafana", "other"), 0, 0),
        (("old",), 0, 0),
        (("soon",), 0, 0),
        (("gone",), 0, 0),
        (("server-only",), 0, 0),
    ],
)
@on_a_loop
async def test_who_is_heard_where_a_certificate_is_required(pki, who, grafana, open_, loop):
    """T3, T5."""
    async with relaying(pki, trust(pki, crl_file=str(pki / "ours" / "crl.pem"))) as relay:
        assert await asked(relay, pki, *who) == grafana
        assert await asked(relay, pki, *who, path="/open") == open_


@on_a_loop
async def test_where_it_is_optional_others_may_come_by_other_ways(pki):
    """T3."""
    async with relaying(pki, trust(pki, is_required=False)) as relay:
        assert await asked(relay, pki, "grafana") == 200
        assert await asked(relay, pki) == 401
        assert await asked(relay, pki, path="/open") == 200
        assert await asked(relay, pki, "grafana", "other") == 0, "a certificate that is shown must be good"
        assert await asked(relay, pki, "gone") == 403, "known, but nobody gave it a role"


@on_a_loop
async def test_a_name_that_is_not_on_the_list_is_not_heard(pki):
    """T4."""
    async with relaying(pki, trust(pki, allowed_sans=frozenset({"gone.example.net"}))) as relay:
        assert await asked(relay, pki, "grafana", path="/open") == 0
        assert await asked(relay, pki, "gone", path="/open") == 200


@on_a_loop
async def test_two_authorities_while_one_is_replaced_and_none_survives_its_removal(pki, tmp_path):
    """A write on a connection that was verified by an authority which is gone is told 503, and none is lost."""
    both = tmp_path / "ca.crt"

    def put(*names):
        fresh = tmp_path / "new"
        fresh.write_text("".join((pki / name / "ca.crt").read_text() for name in names))
        fresh.replace(both)

    put("ours")
    async with relaying(pki, trust(pki, ca_file=str(both))) as relay:
        assert await asked(relay, pki, "grafana", "other") == 0
        put("ours", "other")
        await until(lambda: relay.listeners.tls.context.p256.cert_store_stats()["x509_ca"] == 2)
        async with Client(relay, pki, "grafana", "other") as old, Client(relay, pki, "grafana") as new:
            assert [await old.ask(), await new.ask()] == [200, 200]
            put("ours")
            await until(lambda: relay.listeners.tls.context.p256.cert_store_stats()["x509_ca"] == 1)
            # Whichever comes first: the close between two requests, or the request that is refused.
            assert await old.ask("/write", "POST") in {0, 503}
            assert await old.ask() == 0
        assert await asked(relay, pki, "grafana", "other") == 0
        assert await asked(relay, pki, "grafana") == 200


def resumed(relay, context, session=None):
    """(Whether the handshake took up `session`, its own session); None when it was refused."""
    with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as client:
                client.sendall(get("/grafana"))
                return (client.session_reused, client.session) if client.recv(1) else None
        except ssl.SSLError:
            return None


@on_a_loop
async def test_no_session_survives_the_removal_of_its_authority(pki, tmp_path):
    """T7: CVE-2025-68121 and its like: a session that is taken up again is not verified again."""
    both = tmp_path / "ca.crt"
    both.write_text("".join((pki / name / "ca.crt").read_text() for name in ("ours", "other")))
    async with relaying(pki, trust(pki, ca_file=str(both))) as relay:
        context = ssl.create_default_context(cafile=pki / "ours" / "ca.crt")
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 no session is taken up at all
        context.load_cert_chain(pki / "other" / "grafana.crt", pki / "other" / "grafana.key")
        _, session = await asyncio.to_thread(resumed, relay, context)
        assert (await asyncio.to_thread(resumed, relay, context, session))[0], "while the trust is the same"
        fresh = tmp_path / "new"
        fresh.write_text((pki / "ours" / "ca.crt").read_text())
        fresh.replace(both)
        await until(lambda: relay.listeners.tls.context.p256.cert_store_stats()["x509_ca"] == 1)
        assert await asyncio.to_thread(resumed, relay, context, session) is None


@on_a_loop
async def test_who_is_idle_when_the_trust_changes_is_cut_and_not_refused(pki):
    """A scrape that finds its connection closed opens another; one that is told 401 has failed."""
    async with relaying(pki, trust(pki)) as relay, Client(relay, pki, "grafana") as client:
        assert await client.ask() == 200
        relay.listeners.use(relay.listeners.tls.context, trust_changed=True)
        assert await client.ask() == 0
        assert await relay.reasons(1) == ["ok"]


@both_loops
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_a_loop
async def test_no_handshake_that_began_under_another_trust_is_finished(pki, tmp_path, version, loop):
    """It would be judged by the authorities that it began with, and nobody would look at it again."""
    both = tmp_path / "ca.crt"
    both.write_text("".join((pki / name / "ca.crt").read_text() for name in ("ours", "other")))
    async with relaying(pki, trust(pki, ca_file=str(both))) as relay, contextlib.AsyncExitStack() as stack:
        context = trusting(pki / "ours" / "ca.crt")
        context.minimum_version = context.maximum_version = version
        context.load_cert_chain(pki / "other" / "grafana.crt", pki / "other" / "grafana.key")
        peer = await Handshake.connect_tcp(relay.port, context)
        waiting = await Handshake.connect_tcp(relay.port, trusting(pki / "ours" / "ca.crt", pki / "ours" / "grafana"))
        for one in (peer, waiting):
            stack.callback(one.leave)
        await peer.send_raw(peer.hello())
        await peer.receive_some()  # the relay has asked for the certificate
        await until(lambda: relay.listeners.tls.handshaking == 2)
        fresh = tmp_path / "new"
        fresh.write_text((pki / "ours" / "ca.crt").read_text())
        fresh.replace(both)
        await until(lambda: relay.listeners.tls.context.p256.cert_store_stats()["x509_ca"] == 1)
        assert relay.listeners.tls.handshaking == 1, "who has only connected has begun nothing yet"
        heard = b""
        with contextlib.suppress(OSError):  # which one, and at which step, is the version's
            await peer.handshake()
            await peer.send(get("/grafana"))
            heard = await peer.read(12)
        assert heard == b""
        await waiting.handshake()
        await waiting.send(get("/grafana"))
        assert await waiting.read(12) == b"HTTP/1.1 200"
        assert await relay.reasons(1) == ["ok"]
        assert relay.listeners.tls.counts.failed == 1


@both_loops
@on_a_loop
async def test_handshakes_count_for_their_address(pki, loop):
    """D5: an address that holds as many connections as it may cannot hold a handshake more, nor the other way round."""
    async with relaying(pki, trust(pki), Bounds(max_connections_per_ip=2)) as relay:
        begun = await asyncio.open_connection("127.0.0.1", relay.port)
        await until(lambda: relay.listeners.tls.handshaking == 1)
        async with Client(relay, pki, "grafana") as client:
            assert await client.ask() == 200
            assert relay.context.per_ip == {"127.0.0.1": 2}
            reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert relay.listeners.tls.counts.refused == 1
            writer.close()
            assert await client.ask() == 200
        begun[1].close()
        await until(lambda: relay.context.per_ip == {} and relay.context.present == 0)
        assert await asked(relay, pki, "grafana") == 200


@on_a_loop
async def test_who_waits_for_a_rate_when_the_trust_changes_is_not_let_in(pki):
    async with relaying(pki, trust(pki)) as relay, Client(relay, pki, "grafana") as client:
        assert await client.ask("/slow") == 200
        asking = asyncio.create_task(client.ask("/slow"))
        await until(lambda: any(connection._settling for connection in relay.context.connections))
        relay.listeners.use(relay.listeners.tls.context, trust_changed=True)
        assert await asking == 401
        assert await relay.reasons(2) == ["ok", "certificate_ended"]


@on_a_loop
async def test_a_request_after_the_trust_changed_is_refused_and_ends_the_connection(pki):
    async with relaying(pki, trust(pki)) as relay, Client(relay, pki, "grafana") as client:
        assert await client.ask() == 200
        for connection in relay.context.connections:
            connection.last_shown.certificate.distrust()
        assert await client.ask("/write", "POST") == 503
        assert await client.ask() == 0
        assert (await relay.reasons(2))[-1] == "certificate_ended"


@on_a_loop
async def test_a_revocation_is_taken_while_it_runs(pki, tmp_path):
    crl = tmp_path / "crl.pem"
    authority = tmp_path / "ours"
    authority.mkdir()
    for name in ("ca.crt", "ca.key", "old.crt", "grafana.crt", "grafana.key"):
        (authority / name).write_bytes((pki / "ours" / name).read_bytes())
    revoke(authority, ["old"], datetime.now(UTC))
    (authority / "crl.pem").replace(crl)
    async with relaying(pki, trust(pki, crl_file=str(crl))) as relay:
        assert await asked(relay, pki, "grafana") == 200
        before = relay.listeners.tls.context
        revoke(authority, ["grafana"], datetime.now(UTC))
        (authority / "crl.pem").replace(crl)
        await until(lambda: relay.listeners.tls.context is not before)
        assert await asked(relay, pki, "grafana") == 0


@pytest.mark.parametrize(
    ("revoked", "heard"),
    [({"ours": []}, [200, 0]), ({"ours": [], "other": []}, [200, 200]), ({"ours": [], "other": ["grafana"]}, [200, 0])],
)
@on_a_loop
async def test_while_an_authority_is_replaced_each_has_its_list(pki, tmp_path, revoked, heard):
    """T5: a certificate of whose authority there is no list may be a revoked one: it is not taken."""
    lists = []
    for name, gone in revoked.items():
        (tmp_path / name).mkdir()
        for file in ("ca.crt", "ca.key", "grafana.crt"):
            (tmp_path / name / file).write_bytes((pki / name / file).read_bytes())
        lists.append(revoke(tmp_path / name, gone, datetime.now(UTC)).read_text())
    crl, both = tmp_path / "crl.pem", tmp_path / "ca.crt"
    crl.write_text("".join(lists))
    both.write_text("".join((pki / name / "ca.crt").read_text() for name in ("ours", "other")))
    async with relaying(pki, trust(pki, ca_file=str(both), crl_file=str(crl))) as relay:
        assert [await asked(relay, pki, "grafana", name) for name in ("ours", "other")] == heard


@on_a_loop
async def test_a_list_that_is_past_its_next_update_takes_nobody(pki, tmp_path):
    """T5."""
    for name in ("ca.crt", "ca.key"):
        (tmp_path / name).write_bytes((pki / "ours" / name).read_bytes())
    crl = revoke(tmp_path, [], datetime.now(UTC) - timedelta(days=31))
    async with relaying(pki, trust(pki, crl_file=str(crl))) as relay:
        assert await asked(relay, pki, "grafana") == 0


@pytest.fixture
def self_signed(tmp_path, request):
    """P-256, 29,220 days, a common name and nothing else, as the usual instructions for exporters make it."""
    curve = getattr(request, "param", "prime256v1")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-days", "29220",
         "-nodes", "-subj", "/commonName=prometheus", "-keyout", tmp_path / "self.key", "-out", tmp_path / "self.crt"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return tmp_path


@on_a_loop
async def test_a_certificate_may_be_its_own_authority(pki, self_signed):
    async with relaying(pki, trust(pki, ca_file=str(self_signed / "self.crt"))) as relay:
        assert await asked(relay, pki, "self", str(self_signed)) == 200
        assert await asked(relay, pki, "grafana") == 0


@pytest.mark.parametrize("self_signed", ["secp384r1"], indirect=True)
@on_a_loop
async def test_a_certificate_on_another_curve_is_for_tls_13(pki, self_signed):
    """In TLS 1.2 the groups that are agreed on are those of certificates, too (RFC 8422 5.1.1)."""
    async with relaying(pki, trust(pki, ca_file=str(self_signed / "self.crt"))) as relay:
        assert await asked(relay, pki, "self", str(self_signed)) == 200
        context = ssl.create_default_context(cafile=pki / "ours" / "ca.crt")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self_signed / "self.crt", self_signed / "self.key")
        assert await asyncio.to_thread(resumed, relay, context) is None


def test_a_list_of_the_revoked_that_cannot_be_used_is_named(pki):
    bad = trust(pki, crl_file=str(pki / "ours" / "ca.key"))
    pair = pki / "ours" / "localhost.crt", pki / "ours" / "localhost.key"
    with pytest.raises(PairError, match=r"ca\.key: no CRL in it"):
        build_server_context(*pair, ssl.TLSVersion.TLSv1_2, bad)


@on_a_loop
async def test_an_upstream_is_told_of_the_certificate_that_was_verified_and_of_no_other(pki):
    """T12."""
    claims = [
        b"X-Promgate-Identity: cert:CN=admin\r\n",
        b"X_Promgate_Identity: cert:CN=admin\r\n",
        b"X-Client-Cert: admin\r\n",
        b"X-SSL-Client-Cert: admin\r\n",
        b"X-Forwarded-Client-Cert: Subject=admin\r\n",
    ]
    async with relaying(pki, trust(pki, is_required=False)) as relay:
        async with Client(relay, pki) as nobody:
            assert await nobody.ask("/told", "GET", *claims) == 401
        assert relay.origin.requests == []
        async with Client(relay, pki, "grafana") as client:
            assert await client.ask("/told", "GET", *claims) == 200
        (asked,) = relay.origin.requests
        assert asked.get("x-promgate-identity") == "cert:CN=grafana"
        assert "admin" not in repr(asked.fields)


@on_a_loop
async def test_the_control_plane_is_told_of_the_certificate_while_it_lasts(pki):
    async with relaying(pki, trust(pki, is_required=False)) as relay:

        async def told(*who):
            await asked(relay, pki, *who, path="/own")
            return [value for name, value in relay.origin.requests[-1].fields if name == "x-promgate-certificate"]

        assert await told("grafana") == ["cert:CN=grafana"]
        assert await told() == []
        async with Client(relay, pki, "grafana") as client:
            assert await client.ask("/own") == 200
            (connection,) = relay.context.connections
            connection.last_shown.certificate.distrust()
            assert await client.ask("/own") == 200
        assert "x-promgate-certificate" not in dict(relay.origin.requests[-1].fields)
        await asked(relay, pki, "grafana", path="/open")
        assert "x-promgate-certificate" not in dict(relay.origin.requests[-1].fields), "upstreams are not told"
        relay.context.gate.proxies = Proxies((ip_network("127.0.0.0/8"),))
        async with Client(relay, pki, "grafana") as client:
            assert await client.ask("/own", "GET", b"X-Forwarded-For: 192.0.2.9\r\n") == 200
        assert "x-promgate-certificate" not in dict(relay.origin.requests[-1].fields), "it is the proxy's"
        await until(lambda: relay.outcomes[-1].ip == "192.0.2.9")
        assert relay.outcomes[-1].certificate == ""


@on_a_loop
async def test_a_certificate_is_told_of_with_each_request_that_came_by_its_connection(pki):
    """The ledger knows a sender by it, also where it shows a token."""
    async with relaying(pki, trust(pki, is_required=False)) as relay:
        for who in (["grafana"], ["gone", "ours"], []):
            await asked(relay, pki, *who)
            await asked(relay, pki, *who, path="/open")
        await until(lambda: len(relay.outcomes) == 6)
        told = [(outcome.path, outcome.certificate) for outcome in relay.outcomes]
    assert told == [
        (path, name) for name in ("cert:CN=grafana", "cert:CN=gone", "") for path in (b"/grafana", b"/open")
    ]
