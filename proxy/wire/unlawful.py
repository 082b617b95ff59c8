"""The one exception of the wire: these bytes are not a lawful message, and the connection cannot go on."""

from __future__ import annotations


class Unlawful(Exception):
    """`status` is what a client is told (RFC 9110 15.5); `text` says what was wrong, without quoting it."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
