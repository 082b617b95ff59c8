"""Is it a person who asks? A browser that opens a page may be sent elsewhere; a program would take that for success.

Only what looks like a page being opened counts: whoever shows a credential in a header, or fetches, is a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.authorize import READING

if TYPE_CHECKING:
    from proxy.wire.head import RequestHead


def is_navigation(head: RequestHead) -> bool:
    """Whether `head` opens a page: it accepts HTML, and no field says that a script fetches (Fetch Metadata)."""
    if head.method not in READING or head.authorization_line is not None:
        return False
    takes_pages = False
    for line in head.fields.split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"accept":
            takes_pages = takes_pages or b"text/html" in value.lower()
        elif name == b"x-requested-with" or (name == b"sec-fetch-mode" and value.strip().lower() != b"navigate"):
            return False
    return takes_pages
