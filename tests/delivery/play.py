"""Tokens on their way, and an endpoint that takes them."""

from __future__ import annotations

from datetime import UTC, datetime

from proxy.pki.authority import Leaf, issue, make_authority
from proxy.tokens.ports import Parcel
from proxy.tokens.secret import mint
from proxy.tokens.token import TokenKind
from tests.kit.http_server import HttpServer, Reply
from tests.tokens.play import randomness


def parcel(seed=0, rotation="rotation-1"):
    minted = mint(TokenKind.WRITE, randomness(seed))
    return Parcel("agent", TokenKind.WRITE, minted.id, rotation, minted.secret)


def own_part(secret):
    """What must never be told: prefix and id are public."""
    return secret.reveal().rpartition("_")[2]


def make_pair(directory):
    """An authority and a pair for localhost and 127.0.0.1 in `directory`."""
    now = datetime.now(UTC)
    make_authority(directory, now)
    issue(directory, Leaf("localhost", dns=["localhost"], addresses=["127.0.0.1"]), now)
    return directory


class Endpoint(HttpServer):
    """An HTTPS server that keeps what it is sent; `answer(request) -> Reply` may be replaced."""

    def __init__(self, pair):
        super().__init__(self._keep, (pair / "localhost.crt", pair / "localhost.key"))
        self.received = []
        self.answer = lambda _: Reply(204)

    def _keep(self, request):
        self.received.append(request)
        return self.answer(request)
