"""Several certificates on one listener: the name that is asked for picks one, and each is followed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
from datetime import UTC, datetime

import pytest

from proxy.gate.snapshot import ClientTrust
from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.certificates import Certificates
from proxy.pki.context import PairError
from proxy.pki.validity import find_dns_names
from proxy.pki.watch import CertWatch, TrustWatch
from tests.pki.test_context import client_of, shake_hands

POLL_S = 0.02
HOSTS = {
    "first": ["prometheus.example.net"],
    "alerts": ["alerts.example.net", "shared.example.net"],
    "wild": ["*.team.example.net", "shared.example.net"],
}


@pytest.fixture
def pairs(tmp_path):
    make_authority(tmp_path, datetime.now(UTC))
    for name, dns in HOSTS.items():
        issue(tmp_path, Leaf(name, dns=dns), datetime.now(UTC))
    issue(tmp_path, Leaf("nameless", addresses=["127.0.0.1"], dns=[]), datetime.now(UTC))
    return tmp_path


def of(directory, *names, trust=None):
    watches = [
        CertWatch(directory / f"{name}.crt", directory / f"{name}.key", ssl.TLSVersion.TLSv1_2) for name in names
    ]
    return Certificates(watches, None if trust is None else TrustWatch(trust), poll_s=POLL_S)


@contextlib.asynccontextmanager
async def followed(certificates):
    """What is taken, as (context, whether the trust has changed)."""
    taken = asyncio.Queue()
    watching = asyncio.create_task(certificates.run(lambda context, changed: taken.put_nowait((context, changed))))
    try:
        yield taken
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - a flag for metrics, which nothing announces
            await asyncio.sleep(POLL_S)


def served(context, directory, asked):
    """The DNS names of the certificate that a client gets which asks for `asked`."""
    client, _ = shake_hands(context, client_of(directory, check_hostname=False), asked)
    return [value for kind, value in client.getpeercert()["subjectAltName"] if kind == "DNS"]


@pytest.mark.parametrize("name", HOSTS)
def test_the_names_in_a_certificate(pairs, name):
    assert find_dns_names((pairs / f"{name}.crt").read_text()) == HOSTS[name]


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_where_nothing_can_be_read_there_are_no_names(text):
    assert find_dns_names(text) == []


@pytest.mark.parametrize(
    ("asked", "gets"),
    [
        ("prometheus.example.net", "first"),
        ("alerts.example.net", "alerts"),
        ("ALERTS.example.net", "alerts"),
        ("a.team.example.net", "wild"),
        ("a.b.team.example.net", "first"),
        ("team.example.net", "first"),
        ("shared.example.net", "alerts"),
        ("nobody.example.org", "first"),
        (None, "first"),
    ],
)
def test_the_name_that_is_asked_for_picks_the_certificate(pairs, asked, gets):
    """T9: who asks for another gets the first. All ask the same of clients, so a name opens nothing."""
    context = of(pairs, "first", "alerts", "wild").load()
    assert served(context, pairs, asked) == HOSTS[gets]


def test_one_certificate_is_for_everybody(pairs):
    context = of(pairs, "alerts").load()
    assert context.x25519.sni_callback is context.p256.sni_callback is None, "and nothing is paid for a choice"
    assert served(context, pairs, "prometheus.example.net") == HOSTS["alerts"]


def test_a_certificate_without_a_name_is_refused(pairs):
    with pytest.raises(PairError, match=r"nameless\.crt: stands for no DNS name"):
        of(pairs, "first", "nameless").load()
    of(pairs, "nameless").load()


@pytest.mark.parametrize("name", ["first", "alerts"])
def test_each_is_followed(pairs, name):
    async def play():
        certificates = of(pairs, "first", "alerts")
        context = certificates.load()
        asked = HOSTS[name][0]

        def serial():
            client, _ = shake_hands(context, client_of(pairs, check_hostname=False), asked)
            return client.getpeercert()["serialNumber"]

        async with followed(certificates) as taken:
            before = serial()
            issue(pairs, Leaf(name, dns=HOSTS[name]), datetime.now(UTC), force=True)
            context, changed = await asyncio.wait_for(taken.get(), 30)
            assert not changed
            assert serial() != before
            assert certificates.loaded == 3
            (pairs / f"{name}.key").write_text("no key")
            await until(lambda: certificates.failed)
            assert served(context, pairs, asked) == HOSTS[name]

    asyncio.run(play())


@pytest.fixture
def clients(pairs):
    """Authorities `old` and `new` of clients, each with one; `ca.pem` beside them is the old one."""
    for name in ("old", "new"):
        make_authority(pairs / name, datetime.now(UTC))
        issue(pairs / name, Leaf("agent", server=False, client=True), datetime.now(UTC))
    put(pairs, "old")
    return ClientTrust(str(pairs / "ca.pem"), is_required=True)


def put(directory, name):
    (directory / "fresh.pem").write_bytes((directory / name / "ca.crt").read_bytes())
    (directory / "fresh.pem").replace(directory / "ca.pem")


def lets_in(context, directory, authority, asked):
    client = client_of(directory, check_hostname=False)
    client.load_cert_chain(directory / authority / "agent.crt", directory / authority / "agent.key")
    try:
        _, server = shake_hands(context, client, asked)
    except ssl.SSLError:
        return False
    return server.getpeercert() is not None


@pytest.mark.parametrize("bad", ["first", "alerts"])
@pytest.mark.parametrize("asked", [HOSTS["first"][0], HOSTS["alerts"][0]])
def test_no_pair_keeps_a_trust_of_its_own(pairs, clients, bad, asked):
    """A pair that went bad goes on as it was last good, under the authorities of now."""

    async def play():
        certificates = of(pairs, "first", "alerts", trust=clients)
        context = certificates.load()
        assert [lets_in(context, pairs, name, asked) for name in ("old", "new")] == [True, False]
        async with followed(certificates) as taken:
            (pairs / f"{bad}.key").write_text("no key")
            await until(lambda: certificates.failed)
            put(pairs, "new")
            context, changed = await asyncio.wait_for(taken.get(), 30)
            assert changed
            assert [lets_in(context, pairs, name, asked) for name in ("old", "new")] == [False, True]
            assert certificates.failed
            (pairs / "ca.pem").write_bytes((pairs / "ca.pem").read_bytes())
            issue(pairs, Leaf(bad, dns=HOSTS[bad]), datetime.now(UTC), force=True)
            context, changed = await asyncio.wait_for(taken.get(), 30)
            assert not changed, "the same authorities, written again"
            assert [lets_in(context, pairs, name, asked) for name in ("old", "new")] == [False, True]

    asyncio.run(play())


def test_authorities_that_cannot_be_used_leave_the_last_good_ones(pairs, clients, caplog):
    async def play():
        certificates = of(pairs, "first", "alerts", trust=clients)
        certificates.load()
        async with followed(certificates) as taken:
            (pairs / "ca.pem").write_text("no authority")
            await until(lambda: certificates.failed)
            issue(pairs, Leaf("first", dns=HOSTS["first"]), datetime.now(UTC), force=True)
            context, changed = await asyncio.wait_for(taken.get(), 30)
            assert not changed
            assert lets_in(context, pairs, "old", HOSTS["first"][0])
            put(pairs, "new")
            context, changed = await asyncio.wait_for(taken.get(), 30)
            assert (changed, certificates.failed) == (True, False)

    asyncio.run(play())
    assert [line for line in caplog.messages if "the new authorities are not taken" in line and "ca.pem" in line]


def test_all_pairs_come_under_new_authorities_or_none_does(pairs, clients, monkeypatch):
    """As when no file can be opened just then."""
    real, turns = os.memfd_create, iter([True] * 3 + [False])

    def few(*arguments):
        if not next(turns, True):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*arguments)

    async def play():
        certificates = of(pairs, "first", "alerts", trust=clients)
        certificates.load()
        monkeypatch.setattr(os, "memfd_create", few)
        async with followed(certificates) as taken:
            put(pairs, "new")
            context, changed = await asyncio.wait_for(taken.get(), 30)
            assert changed
            assert next(turns, None) is None, "there was a turn that failed"
            for asked in (HOSTS["first"][0], HOSTS["alerts"][0]):
                assert [lets_in(context, pairs, name, asked) for name in ("old", "new")] == [False, True]
            assert taken.empty()

    asyncio.run(play())
