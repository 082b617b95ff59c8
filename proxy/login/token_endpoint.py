"""The token endpoint (RFC 6749 3.2): a code or a refresh token -> tokens, asked once and no more.

A grant that is refused is a value, and the login is over. Whatever else is no answer with tokens (a fault, HTML, a
refusal of promgate's own login) says nothing of the person: that is a ProviderError.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from proxy.login.client_secret import basic_login, read_secret
from proxy.login.people import Refused
from proxy.login.provider import ProviderError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from proxy.login.provider import ProviderAnswer, ProviderClient

#: RFC 6749 5.2; GitHub's names for the same.
_GONE = frozenset({"invalid_grant", "bad_verification_code", "bad_refresh_token"})
_NOT_US = frozenset({"invalid_client", "incorrect_client_credentials"})
_is_error = re.compile(r"[ !#-\[\]-~]{1,64}").fullmatch  # RFC 6749 5.2
#: Ways to log in there, the best first (RFC 8414 2, `token_endpoint_auth_methods_supported`).
BASIC, POST = "client_secret_basic", "client_secret_post"


class TokenEndpoint:
    """promgate as a client of one provider; `secret` empty: a public one."""

    def __init__(self, client_id: str, secret: str, secret_file: str) -> None:
        self._client_id, self._secret, self._secret_file = client_id, secret, secret_file

    async def ask(
        self, client: ProviderClient, url: str, form: Mapping[str, str], ways: Collection[str]
    ) -> dict[str, Any] | Refused:
        """The tokens for `form`. `ways` are those by which the provider lets a client log in."""
        answer = await self._send(client, url, form, ways)
        told = _told_by(answer)
        error = told.get("error")
        if error in _NOT_US or answer.status == 401:
            fresh = await asyncio.to_thread(read_secret, self._secret_file)
            if fresh not in {"", self._secret}:
                self._secret = fresh  # it was replaced under us; a grant is not spent by a client that is refused
                answer = await self._send(client, url, form, ways)
                told = _told_by(answer)
                error = told.get("error")
        if answer.status >= 500 or (answer.status != 200 and error is None):
            raise ProviderError(f"{url} answered {answer.status}", answer.status)
        if error in _GONE:
            return Refused("the provider takes this login no more: log in again")
        if error is not None:
            raise ProviderError(f"{url} refused promgate with {error_text(error)}: check client_id and its secret")
        return told

    async def _send(
        self, client: ProviderClient, url: str, form: Mapping[str, str], ways: Collection[str]
    ) -> ProviderAnswer:
        headers = {"Accept": "application/json"}
        if not self._secret:
            form = {**form, "client_id": self._client_id}
        elif BASIC in ways:
            headers["Authorization"] = basic_login(self._client_id, self._secret)
        elif POST in ways:
            form = {**form, "client_id": self._client_id, "client_secret": self._secret}
        else:
            raise ProviderError(f"{url} takes neither {BASIC} nor {POST}: promgate has no other way to log in there")
        return await client.ask_once("POST", url, headers, form)


def is_token(value: object) -> bool:
    """Whether it can be sent as one (RFC 6749 appendix A.12: VSCHAR)."""
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()


def error_text(error: object) -> str:
    """An error code as a provider tells it, or that it is none: nothing else gets into a log or a page."""
    return error if isinstance(error, str) and _is_error(error) else "an error that is none of RFC 6749"


def _told_by(answer: ProviderAnswer) -> dict[str, Any]:
    """What it holds. GitHub writes a form unless it is asked for JSON; and what is neither tells nothing."""
    if answer.content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        return dict(parse_qsl(answer.body.decode("ascii", "replace")))
    try:
        return answer.parse_object()
    except ProviderError:
        if answer.status == 200:
            raise
        return {}
