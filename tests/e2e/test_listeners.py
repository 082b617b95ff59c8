"""What stands in YAML about listeners, certificates and limits, at a promgate that runs by it."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.fetch import Answer, answers_ok, ask, fetch
from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.process import free_port
from tests.kit.promgate import Promgate, issue_client, run, write_route
from tests.kit.revocations import revoke
from tests.kit.users import htpasswd
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HSTS = "max-age=7776000; includeSubDomains"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"


class Upstream(HttpServer):
    """Says its name, and keeps what it is asked. Whoever asks for `/slow...` waits until it is `released`."""

    def __init__(self, name: str) -> None:
        super().__init__(self._answer)
        self.name = name
        self.seen: list[Request] = []
        self.released = threading.Event()

    def _answer(self, request: Request) -> Reply:
        self.seen.append(request)
        if request.path.startswith("/slow"):
            self.released.wait(60)
        return Reply(body=self.name.encode(), headers={"X-Of": self.name})


@contextmanager
def dialled(
    address: str, port: int, ca_file: Path, name: str = "", *, before: bytes = b"", client: Path | None = None
) -> Iterator[tuple[http.client.HTTPConnection, ssl.SSLSocket]]:
    """A connection to an address by a name of our choice (SNI), with bytes `before` TLS and a client's certificate."""
    trust = ssl.create_default_context(cafile=str(ca_file))
    if client is not None:
        trust.load_cert_chain(client.with_suffix(".crt"), client.with_suffix(".key"))
    with socket.create_connection((address, port), 10.0) as plain:
        plain.sendall(before)
        with trust.wrap_socket(plain, server_hostname=name or "localhost") as wrapped:
            connection = http.client.HTTPConnection(name or "localhost", timeout=10.0)
            connection.sock = wrapped
            yield connection, wrapped


def issue(certs: Path, name: str, host: str, *more: str) -> None:
    done = run("certs", "issue", name, f"--dns={host}", f"--dir={certs}", *more)
    assert done.returncode == 0, done.stderr


class Site:
    """One promgate with two names, a port for http, one for IPv6, and the limits of routes."""

    def __init__(self, directory: Path, noc: Upstream, lab: Upstream) -> None:
        self.noc, self.lab = noc, lab
        self.plain, self.v6 = free_port(), free_port()
        port = free_port()
        by_ip = {"by": "ip"}
        config: dict[str, Any] = {
            "listen": [f"127.0.0.1:{port}", f"[::1]:{self.v6}"],
            "tls_server_config": {
                "cert_file": "certs/localhost.crt",
                "key_file": "certs/localhost.key",
                "certificates": [
                    {"cert_file": f"certs/{name}.crt", "key_file": f"certs/{name}.key"} for name in ("noc", "lab")
                ],
            },
            "external_url": "https://noc.example",
            "redirect_http": {"listen": f"127.0.0.1:{self.plain}"},
            "hsts": {"max_age": "90d", "include_subdomains": True},
            "trusted_proxies": ["::1/128"],
            "routes": [
                self.route("noc", "/x", noc, host="noc.example"),
                self.route("lab", "/x", lab, host="lab.example"),
                self.route("few", "/few", noc, rate_limit={"rate": 1, "interval": "10m", "burst": 3, **by_ip}),
                self.route("slow", "/slow", noc, concurrency={"limit": 1, **by_ip}),
                {
                    **write_route(noc.base),
                    "auth": ["none"],
                    "rate_limit": {"rate": 1, "interval": "10m", "burst": 1, **by_ip},
                },
            ],
        }
        del config["routes"][-1]["allow"]
        self.promgate = Promgate(directory, config, port)
        for name in ("noc", "lab"):
            issue(self.promgate.ca_file.parent, name, f"{name}.example")

    @staticmethod
    def route(name: str, path: str, upstream: Upstream, **more: Any) -> dict[str, Any]:
        return {"name": name, "path": path, "upstream": upstream.base, "auth": ["none"], **more}

    def get(self, path: str) -> Answer:
        return fetch(self.promgate.base + path, ca_file=self.promgate.ca_file)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Upstream("noc") as noc, Upstream("lab") as lab:
        made = Site(tmp_path_factory.mktemp("listeners"), noc, lab)
        with made.promgate:
            yield made


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_two_names_have_two_certificates_and_two_routes(site: Site, address: str) -> None:
    port = site.promgate.port if address == "127.0.0.1" else site.v6
    for name in ("noc", "lab"):
        with dialled(address, port, site.promgate.ca_file, f"{name}.example") as (connection, wrapped):
            certificate = wrapped.getpeercert()
            assert certificate is not None
            assert certificate["subjectAltName"] == (("DNS", f"{name}.example"),)
            assert ask(connection, "GET", "/x/y").body == name.encode()
    # Any other name gets the first certificate, and no route of theirs.
    with dialled(address, port, site.promgate.ca_file, "localhost") as (connection, _):
        assert ask(connection, "GET", "/x/y").status == 404


def test_what_an_answer_is_headed_by(site: Site) -> None:
    """The upstream's fields as they are, ours beside them, and nothing that tells what we are."""
    with dialled("127.0.0.1", site.promgate.port, site.promgate.ca_file, "noc.example") as (connection, _):
        relayed = ask(connection, "GET", "/x/y")
        own = ask(connection, "GET", "/nowhere")
    assert [name.lower() for name in relayed.headers] == [
        "server", "date", "content-type", "content-length", "x-of", "strict-transport-security"
    ]  # fmt: skip
    assert own.status == 404
    assert sorted(name.lower() for name in own.headers) == [
        "content-length", "content-type", "strict-transport-security", "x-request-id"
    ]  # fmt: skip
    assert relayed.headers["Strict-Transport-Security"] == own.headers["Strict-Transport-Security"] == HSTS


def test_http_sends_people_on_and_nobody_in(site: Site) -> None:
    plain = f"http://127.0.0.1:{site.plain}"
    before = len(site.noc.seen)
    page = fetch(f"{plain}/x/graph?g0.expr=up", headers=PAGE)
    assert (page.status, page.headers["Location"]) == (308, "https://noc.example/x/graph?g0.expr=up")
    assert "Strict-Transport-Security" not in page.headers  # RFC 6797 7.2
    assert fetch(f"{plain}/x/y").status == 403
    write = fetch(f"{plain}/prometheus/api/v1/write", method="POST", body=b"x")
    assert write.status == 503
    assert int(write.headers["Retry-After"]) >= 5
    assert fetch(f"{plain}/-/healthy").status == 200
    assert len(site.noc.seen) == before


def test_a_rate_is_kept_and_told(site: Site) -> None:
    answers = [site.get("/few/x") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 600
    # On a write route no sender is told to drop what it has.
    where = site.promgate.write_url
    sent = [fetch(where, method="POST", body=b"x", ca_file=site.promgate.ca_file) for _ in range(2)]
    assert [answer.status for answer in sent] == [200, 503]
    assert 5 <= int(sent[-1].headers["Retry-After"]) <= 30


def test_two_addresses_of_one_64_share_a_limit(site: Site) -> None:
    """They come by a proxy on `::1`, which is believed; its own address is not theirs."""

    def asked(client: str) -> int:
        with dialled("::1", site.v6, site.promgate.ca_file) as (connection, _):
            return ask(connection, "GET", "/few/x", headers={"X-Forwarded-For": client}).status

    assert [asked(f"2001:db8:0:1::{host}") for host in ("1", "2", "ffff:1", "b:c:d")] == [200, 200, 200, 429]
    assert asked("2001:db8:0:2::1") == 200
    assert asked("::1") == 200
    assert site.noc.seen[-2].headers["X-Forwarded-For"] == "2001:db8:0:2::1, ::1"


def test_one_at_once(site: Site) -> None:
    first: list[Answer] = []
    asking = threading.Thread(target=lambda: first.append(site.get("/slow/x")))
    asking.start()
    try:
        wait_for(lambda: any(one.path == "/slow/x" for one in site.noc.seen), "the first at the upstream")
        refused = site.get("/slow/y")
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
    finally:
        site.noc.released.set()
        asking.join()
    assert [answer.status for answer in first] == [200]
    wait_for(lambda: site.get("/slow/z").status == 200, "its place")
    assert [one.path for one in site.noc.seen if one.path == "/slow/y"] == []


def version_2(address: str) -> bytes:
    return V2 + socket.inet_aton(address) + socket.inet_aton("192.0.2.1") + bytes([4, 210, 1, 187])


def test_a_balancer_that_announces_its_clients(tmp_path: Path) -> None:
    """Version 1 and 2, before TLS; what they announce is who is let in, counted, logged and told to the upstream."""

    def asked(before: bytes) -> int:
        with dialled("127.0.0.1", promgate.port, promgate.ca_file, before=before) as (connection, _):
            return ask(connection, "GET", "/x/y").status

    with Upstream("origin") as origin:
        config = {
            "proxy_protocol": True,
            "trusted_proxies": ["127.0.0.0/8"],
            "routes": [Site.route("x", "/x", origin, allow_from=["198.51.100.0/24"])],
        }
        healthy = b"PROXY TCP4 192.0.2.9 192.0.2.1 1234 443\r\n"

        def ready() -> bool:
            try:
                with dialled("127.0.0.1", promgate.port, promgate.ca_file, before=healthy) as (connection, _):
                    return ask(connection, "GET", "/-/healthy").status == 200
            except OSError:
                return False

        promgate = Promgate(tmp_path, config, ready=ready)
        with promgate:
            assert asked(b"PROXY TCP4 198.51.100.9 192.0.2.1 1234 443\r\n") == 200
            assert asked(version_2("198.51.100.10")) == 200
            assert asked(b"PROXY TCP4 203.0.113.1 192.0.2.1 1234 443\r\n") == 403
            assert asked(version_2("203.0.113.2")) == 403
            for no_client in (b"", b"PROXY UNKNOWN\r\n"):
                with pytest.raises(OSError, match=r"."):
                    asked(no_client)
            told = [one.headers["X-Forwarded-For"] for one in origin.seen]
            assert told == ["198.51.100.9", "198.51.100.10"]
            refused = promgate.wait_request(lambda line: line["client"] == "203.0.113.2", "who was refused")
            assert refused["status"] == 403


def test_a_balancer_is_taken_at_its_word_on_each_listener(tmp_path: Path) -> None:
    """At the port for http and at the console's own: who is announced is who is counted and logged there, too."""
    plain, console = free_port(), free_port()

    def announced(address: str) -> bytes:
        return f"PROXY TCP4 {address} 192.0.2.1 1234 443\r\n".encode()

    @contextmanager
    def reached(port: int, before: bytes) -> Iterator[http.client.HTTPConnection]:
        if port == console:
            with dialled("127.0.0.1", port, promgate.ca_file, before=before) as (connection, _):
                yield connection
            return
        with socket.create_connection(("127.0.0.1", port), 10.0) as sock:
            sock.sendall(before)
            connection = http.client.HTTPConnection("localhost", timeout=10.0)
            connection.sock = sock
            yield connection

    def asked(port: int, before: bytes, path: str = "/-/healthy") -> int:
        try:
            with reached(port, before) as connection:
                return ask(connection, "GET", path, headers={"Accept": "text/html"}).status
        except (OSError, http.client.HTTPException):
            return 0

    with Upstream("origin") as origin:
        config = {
            "proxy_protocol": True,
            "trusted_proxies": ["127.0.0.0/8"],
            "external_url": "https://noc.example",
            "redirect_http": {"listen": f"127.0.0.1:{plain}"},
            "htpasswd": htpasswd("ann"),
            "roles": {"viewer": "basic:ann"},
            "console": {"enabled": True, "listen": f"127.0.0.1:{console}"},
            "limits": {"max_connections_per_ip": 2},
            "routes": [Site.route("x", "/x", origin)],
        }
        promgate = Promgate(tmp_path, config, ready=lambda: asked(console, announced("198.51.100.1")) == 200)
        with promgate:
            for port, client in ((plain, "198.51.100.2"), (console, "198.51.100.3")):
                assert asked(port, b"") == 0, "a trusted peer has to say whose connection it is"
                with reached(port, announced(client)) as first, reached(port, announced(client)) as second:
                    assert [ask(each, "GET", "/-/healthy").status for each in (first, second)] == [200, 200]
                    assert asked(port, announced(client)) == 0, "it has its two connections"
                    assert asked(port, announced("198.51.100.4")) == 200, "and nobody else's"
            clients = {"198.51.100.2", "198.51.100.3", "198.51.100.4"}
            wait_for(lambda: clients <= {line["client"] for line in promgate.requests()}, "the lines of all")
            assert asked(console, announced("198.51.100.5"), "/-/console") == 401
            assert asked(plain, version_2("198.51.100.6"), "/x") == 308
            sent_on = promgate.wait_request(lambda line: line["client"] == "198.51.100.6", "who was sent on")
            assert sent_on["status"] == 308


def test_only_certificates_with_a_name_that_is_listed_and_that_are_not_revoked(tmp_path: Path) -> None:
    def asked(client: str) -> int:
        """A refusal may come with the handshake or, in TLS 1.3, behind it."""
        pair = certs / client if client else None
        try:
            with dialled("127.0.0.1", promgate.port, promgate.ca_file, client=pair) as (connection, _):
                return ask(connection, "GET", "/x/y").status
        except (OSError, http.client.HTTPException):
            return 0

    with Upstream("origin") as origin:
        config = {
            "tls_server_config": {
                "cert_file": "certs/localhost.crt",
                "key_file": "certs/localhost.key",
                "client_auth_type": "RequireAndVerifyClientCert",
                "client_ca_file": "certs/ca.crt",
                "client_allowed_sans": ["listed.example", "gone.example", "late.example"],
                "client_crl_file": "certs/crl.pem",
            },
            "routes": [Site.route("x", "/x", origin)],
        }
        promgate = Promgate(tmp_path, config, ready=lambda: asked("listed") == 200)
        certs = promgate.ca_file.parent
        for name in ("listed", "gone", "late", "other"):
            issue(certs, name, f"{name}.example", "--client")
        issue_client(certs, "nameless")
        revoke(certs, ["gone"], datetime.now(UTC))
        with promgate:
            told = {client: asked(client) for client in ("listed", "late", "gone", "other", "nameless", "")}
            assert told == {"listed": 200, "late": 200, "gone": 0, "other": 0, "nameless": 0, "": 0}
            assert not answers_ok(f"{promgate.base}/-/healthy", promgate.ca_file)
            revoke(certs, ["gone", "late"], datetime.now(UTC))
            wait_for(lambda: asked("late") == 0, "the new list of what is revoked", timeout_s=30)
            assert asked("listed") == 200
