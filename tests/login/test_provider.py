"""What a provider may answer, and what is made of it: an answer within its bounds, or a ProviderError."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from proxy.login import provider as module
from proxy.login.provider import MAX_ANSWER_BYTES, ProviderClient, ProviderError, discover, endpoint_of
from proxy.pki.authority import Leaf, issue, make_authority
from tests.kit.http_server import Reply
from tests.kit.process import free_port
from tests.login.provider import Provider, told


@pytest.fixture
def provider():
    with Provider() as made:
        yield made


def get(url, ca_file=""):
    async def play():
        async with ProviderClient(ca_file) as client:
            return await client.get(url)

    return asyncio.run(play())


def test_an_object(provider):
    provider.answers["/x"] = {"a": [1]}
    assert get(f"{provider.base}/x") == {"a": [1]}
    (request,) = provider.requests
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in request.headers


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(200, b"<html>sign in</html>", "text/html"), "no JSON object"),
        (Reply(200, b""), "no JSON object"),
        (Reply(200, b"[1]"), "no JSON object"),
        (Reply(200, b"\xff\xfe"), "no JSON object"),
        (Reply(200, b'{"a":' * 100_000), "no JSON object"),
        (Reply(200, b'{"a": "' + b"x" * 10_000_000 + b'"}'), f"more than {MAX_ANSWER_BYTES} bytes"),
        (told({}, 201), "answered 201"),
        (told({}, 401), "answered 401"),
        (told({}, 500), "answered 500"),
        (Reply(302, b""), "answered 302"),
        (Reply(307, b""), "answered 307"),
    ],
)
def test_what_is_no_answer(provider, reply, why):
    """O8, O9: HTML, 10 MB, a redirect, and what else is no JSON object."""
    provider.answers["/x"] = reply
    with pytest.raises(ProviderError, match=why):
        get(f"{provider.base}/x")
    assert provider.asked == {"/x": 1}


@pytest.mark.parametrize("url", ["http://id.example.net/keys", "file:///etc/passwd", "https://a:b@c/d"])
def test_what_is_not_asked(url):
    with pytest.raises(ProviderError, match="is not asked"):
        get(url)


def test_nobody_there():
    with pytest.raises(ProviderError, match="Cannot connect"):
        get(f"http://127.0.0.1:{free_port()}/x")


def test_an_answer_that_does_not_come(provider, monkeypatch):
    monkeypatch.setattr(module, "DEADLINE_S", 0.2)
    provider.hold.clear()
    try:
        with pytest.raises(ProviderError, match=r"no whole answer within 0\.2 s"):
            get(f"{provider.base}/x")
    finally:
        provider.hold.set()


def test_discovery(provider):
    async def play():
        async with ProviderClient() as client:
            return await discover(client, provider.base)

    assert endpoint_of(asyncio.run(play()), "jwks_uri") == f"{provider.base}/keys"
    for other in (f"{provider.base}/", "https://evil", None, 7, provider.base.upper()):
        provider.described = {"issuer": other}
        with pytest.raises(ProviderError, match="exactly that is wanted"):
            asyncio.run(play())


@pytest.mark.parametrize("url", ["http://id.example.net/keys", "", None, 7, ["https://a"], "/keys"])
def test_an_endpoint_that_is_none(url):
    with pytest.raises(ProviderError, match="an https URL is wanted"):
        endpoint_of({"jwks_uri": url}, "jwks_uri")


def test_nothing_is_loaded_before_the_first_question():
    code = "import sys; from proxy.login.provider import ProviderClient; ProviderClient(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"aiohttp", "yarl"} & set(ran.stdout.split())


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Two authorities, `ours` and `other`; ours has a certificate for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC)
    for name in ("ours", "other"):
        make_authority(directory / name, now)
    issue(directory / "ours", Leaf("provider", addresses=["127.0.0.1"]), now)
    return directory


@pytest.fixture
def https(pki):
    """The URL of a page behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "ours" / "provider.crt", pki / "ours" / "provider.key")
    provider = Provider(**{"/x": {"a": 1}})
    server = provider._server
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with provider:
        yield f"https://{provider.address}/x"


def test_https_is_verified_by_the_authorities_of_the_configuration(pki, https):
    assert get(https, str(pki / "ours" / "ca.crt")) == {"a": 1}
    for ca_file in (str(pki / "other" / "ca.crt"), ""):
        with pytest.raises(ProviderError, match="CERTIFICATE_VERIFY_FAILED"):
            get(https, ca_file)
    with pytest.raises(ProviderError, match="No such file"):
        get(https, str(pki / "no-such.crt"))


def test_a_changed_authority_is_taken_after_a_refusal(pki, https, tmp_path):
    ca_file = tmp_path / "ca.crt"

    async def play():
        async with ProviderClient(str(ca_file)) as client:
            shutil.copy(pki / "other" / "ca.crt", ca_file)
            with pytest.raises(ProviderError):
                await client.get(https)
            shutil.copy(pki / "ours" / "ca.crt", ca_file)
            return await client.get(https)

    assert asyncio.run(play()) == {"a": 1}


def test_who_asks_first_at_the_same_time_shares_the_connections(provider):
    provider.answers["/x"] = {"a": [1]}

    async def play():
        async with ProviderClient() as client:
            sessions = await asyncio.gather(*(client._open() for _ in range(5)))
            assert len(set(map(id, sessions))) == 1
            assert await client.get(f"{provider.base}/x") == {"a": [1]}

    asyncio.run(play())
