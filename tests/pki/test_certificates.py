"""Several certificates on one listener: the name that is asked for picks one, and each is followed."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime

import pytest

from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.certificates import Certificates
from proxy.pki.context import PairError
from proxy.pki.validity import find_dns_names
from proxy.pki.watch import CertWatch
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


def of(directory, *names):
    watches = [
        CertWatch(directory / f"{name}.crt", directory / f"{name}.key", ssl.TLSVersion.TLSv1_2) for name in names
    ]
    return Certificates(watches, poll_s=POLL_S)


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
        taken = asyncio.Queue()
        context = certificates.load()
        asked = HOSTS[name][0]

        def serial():
            client, _ = shake_hands(context, client_of(pairs, check_hostname=False), asked)
            return client.getpeercert()["serialNumber"]

        watching = asyncio.create_task(certificates.run(lambda context, changed: taken.put_nowait((context, changed))))
        try:
            before = serial()
            issue(pairs, Leaf(name, dns=HOSTS[name]), datetime.now(UTC), force=True)
            context, changed = await asyncio.wait_for(taken.get(), 30)
            assert not changed
            assert serial() != before
            assert certificates.loaded == 3
            (pairs / f"{name}.key").write_text("no key")
            async with asyncio.timeout(30):
                while not certificates.failed:  # noqa: ASYNC110 - a flag for metrics, which nothing announces
                    await asyncio.sleep(POLL_S)
            assert served(context, pairs, asked) == HOSTS[name]
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    asyncio.run(play())
