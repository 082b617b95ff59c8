"""A token told to an HTTPS endpoint, signed; an answer of 2xx is the receipt.

The form is that of Standard Webhooks (https://www.standardwebhooks.com), so that receivers find a library:
`webhook-id`, `webhook-timestamp` (unix seconds) and `webhook-signature: v1,BASE64`, which is HMAC-SHA-256 over
`ID.TIMESTAMP.BODY`. The id is that of the rotation and of the token, the same when a delivery is tried again. The
body is JSON: `type`, `timestamp`, and in `data` the name, kind, token_id, rotation and token. `docs/delivery.md`
shows how to check it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.delivery.ask import NoAnswer, Request, ask
from proxy.delivery.scrub import first_line
from proxy.tokens.ports import DeliveryError
from proxy.tokens.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.tokens.ports import Parcel
    from proxy.tokens.targets import WebhookTarget

#: A key that is guessed signs forged tokens; Standard Webhooks wants at least 24 bytes.
MIN_KEY_BYTES: Final = 24
_KEY_PREFIX: Final = "whsec_"
_MAX_KEY_FILE: Final = 4096


class WebhookSink:
    """Posts each parcel once. `clock` gives unix seconds."""

    def __init__(self, where: WebhookTarget, clock: Callable[[], float] = time.time) -> None:
        self.target = where.target
        self._where = where
        self._clock = clock

    def deliver(self, parcel: Parcel) -> None:
        where, now = self._where, self._clock()
        key = self._key()
        body = json.dumps(_told(parcel, now), separators=(",", ":")).encode()
        message_id, timestamp = f"{parcel.rotation}-{parcel.token_id}", str(int(now))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "promgate",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(key, message_id, timestamp, body),
        }
        try:
            answer = ask(Request("POST", where.url, headers, body, where.ca_file, where.server_name), where.timeout_s)
        except NoAnswer as error:
            raise DeliveryError(f"{self.target}: {error}") from error
        if 200 <= answer.status < 300:
            return
        if 300 <= answer.status < 400:
            raise DeliveryError(f"{self.target}: answered {answer.status}; redirects are not followed: name the place")
        said = first_line(answer.body, parcel.secret, Secret(key.decode("latin-1")))
        raise DeliveryError(f"{self.target}: answered {answer.status}{': ' + said if said else ''}")

    def _key(self) -> bytes:
        try:
            with Path(self._where.secret_file).open("rb") as file:
                return parse_key(file.read(_MAX_KEY_FILE))
        except OSError as error:
            text = f"{self._where.secret_file} cannot be read: {error.strerror}"
            raise DeliveryError(f"{self.target}: {text}") from error
        except ValueError as error:
            raise DeliveryError(f"{self.target}: {self._where.secret_file}: {error}") from None


def parse_key(written: bytes) -> bytes:
    """The key in a `secret_file`: `whsec_` and base64, or the bytes as they are, without the line break at the end."""
    written = written.strip()
    key = written
    if written.startswith(_KEY_PREFIX.encode()):
        try:
            key = base64.b64decode(written.removeprefix(_KEY_PREFIX.encode()), validate=True)
        except binascii.Error:
            raise ValueError("what follows whsec_ is not base64") from None
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"a key has at least {MIN_KEY_BYTES} bytes: make one with `openssl rand -base64 32`")
    return key


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """`v1,BASE64`, as Standard Webhooks has it."""
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def _told(parcel: Parcel, now: float) -> dict[str, object]:
    return {
        "type": "token.rotated",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "data": {
            "name": parcel.name,
            "kind": parcel.kind.value,
            "token_id": parcel.token_id,
            "rotation": parcel.rotation,
            "token": parcel.secret.reveal(),
        },
    }
