"""Asking a provider (RFC 8414, OpenID Connect Discovery 1.0): one bounded answer, or a ProviderError for the log.

Nothing is followed and nothing is guessed: https alone (or loopback), no redirect, no cookie, no proxy of the
environment, 1 MiB, 10 s. aiohttp is imported with the first question: it costs 15 MB.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from proxy.wire.url import is_safe_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import ClientResponse, ClientSession

MAX_ANSWER_BYTES: Final = 1024 * 1024
DEADLINE_S: Final = 10.0
_MAX_CONNECTIONS: Final = 16


class ProviderError(Exception):
    """It could not be asked, or its answer is none. `status` is that of an answer other than 200.

    `is_late`: there was no whole answer in time.
    """

    def __init__(self, text: str, status: int = 0, *, is_late: bool = False) -> None:
        super().__init__(text)
        self.status, self.is_late = status, is_late


class ProviderAnswer(NamedTuple):
    """One whole answer, of any status. `link` is its Link field (RFC 8288), `url` without what was asked there."""

    url: str
    status: int
    body: bytes
    content_type: str
    link: str

    def parse_object(self) -> dict[str, Any]:
        """The JSON object that it holds, or ProviderError."""
        told = self._parse()
        if not isinstance(told, dict):
            raise ProviderError(f"{self.url} answered with what is no JSON object", self.status)
        return told

    def parse_list(self) -> list[Any]:
        """The JSON array that it holds, or ProviderError."""
        told = self._parse()
        if not isinstance(told, list):
            raise ProviderError(f"{self.url} answered with what is no JSON array", self.status)
        return told

    def _parse(self) -> Any:
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class ProviderClient:
    """Connections to one provider, kept until `aclose`. `ca_file` empty: the system's authorities."""

    def __init__(self, ca_file: str = "") -> None:
        self._ca_file = ca_file
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connections. The next question opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, url: str) -> dict[str, Any]:
        """The JSON object at `url`."""
        return _ok(await self._ask("GET", url, {}, None, tries=2)).parse_object()

    async def post(self, url: str, form: Mapping[str, str], authorization: str) -> dict[str, Any]:
        """The JSON object that `form` is answered with. Sent again, once, where a kept connection turns out dead.

        So nothing may be asked here that must not be asked twice.
        """
        return _ok(await self._ask("POST", url, {"Authorization": authorization}, form, tries=2)).parse_object()

    async def ask_once(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> ProviderAnswer:
        """The answer, of whatever status, to what is sent once and no more: a code, a refresh token."""
        return await self._ask(method, url, headers, form, tries=1)

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None, *, tries: int
    ) -> ProviderAnswer:
        if not is_safe_url(url):
            raise ProviderError(f"{url[:200]!a} is not asked: https is wanted, or http on this machine")
        if "aiohttp" not in sys.modules:
            await asyncio.to_thread(import_module, "aiohttp")  # a quarter of a second: not for the event loop
        import aiohttp  # noqa: PLC0415 - see the module's docstring
        from yarl import URL  # noqa: PLC0415

        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        try:
            async with asyncio.timeout(DEADLINE_S):
                for left in reversed(range(tries)):
                    session = await self._open()
                    try:
                        async with session.request(
                            method, URL(url, encoded=True), data=form, headers=headers, allow_redirects=False
                        ) as answer:
                            return await _read(answer)
                    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                        if not left or isinstance(error, aiohttp.ClientConnectorError):
                            raise
        except TimeoutError:
            raise ProviderError(f"{url}: no whole answer within {DEADLINE_S:g} s", is_late=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                await self.aclose()  # `ca_file` may be another by the next question
            raise ProviderError(f"{url}: {str(error) or type(error).__name__}") from error
        raise AssertionError  # the last attempt returns or raises

    async def _open(self) -> ClientSession:
        if self._session is None:
            import aiohttp  # noqa: PLC0415 - see the module's docstring

            trust = await asyncio.to_thread(_build_trust, self._ca_file)
            if self._session is None:  # others asked at the same time, and one was quicker
                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=trust, limit=_MAX_CONNECTIONS),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=DEADLINE_S),
                    auto_decompress=False,  # what was not asked for is not unpacked
                )
        return self._session


def _build_trust(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _read(answer: ClientResponse) -> ProviderAnswer:
    text = bytearray()
    async for piece in answer.content.iter_any():
        text += piece
        if len(text) > MAX_ANSWER_BYTES:
            raise ProviderError(f"{answer.url} answered with more than {MAX_ANSWER_BYTES} bytes")
    kind, link = answer.headers.get("Content-Type", ""), answer.headers.get("Link", "")
    return ProviderAnswer(str(answer.url.with_query(None)), answer.status, bytes(text), kind, link)


def _ok(answer: ProviderAnswer) -> ProviderAnswer:
    if answer.status != 200:
        raise ProviderError(f"{answer.url} answered {answer.status}", answer.status)
    return answer


async def discover(client: ProviderClient, issuer: str) -> dict[str, Any]:
    """The issuer's own description of itself (OpenID Connect Discovery 4). It must call itself what we call it."""
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    told = await client.get(url)
    if told.get("issuer") != issuer:
        other = str(told.get("issuer"))[:200]
        raise ProviderError(f"{url} describes {other!a} and not {issuer!a}: exactly that is wanted")
    return told


def endpoint_of(told: Mapping[str, Any], name: str) -> str:
    """An endpoint that the issuer describes, `jwks_uri` for example."""
    url = told.get(name)
    if not isinstance(url, str) or not is_safe_url(url):
        raise ProviderError(f"the issuer's {name} is {str(url)[:200]!a}: an https URL is wanted")
    return url
