"""What became of one request: all that is ever told of it. It holds no secret, no query and no body."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Outcome:
    """Times are unix seconds, sizes are octets of body as it passed, chunk framing included.

    `path` is canonical, and empty where no lawful head was seen. `certificate` is the first name of the connection's
    client certificate (`cert:CN=x`), also where something else was shown in the request. `id` is the request's id where
    the client was told it; 0: it is given one when it is written down.
    """

    at: float
    duration_s: float
    ip: str
    method: bytes
    path: bytes
    status: int
    reason: str
    route: str
    identity: str
    token_id: str
    agent: bytes
    bytes_in: int
    bytes_out: int
    certificate: str = ""
    id: int = 0
