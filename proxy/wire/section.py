"""All field lines of a request head as one piece, read line by line once and known as a whole from then on.

A section enters the memo only when each of its lines was in the memo of lines already: so it holds no credential, all
of it was judged, and all of it comes again. The caller leaves out the two lines that are different each time.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.wire import fields as f
from proxy.wire.cookies import take_own
from proxy.wire.fields import FieldMemo
from proxy.wire.unlawful import Unlawful

USUAL_LENGTH = b"\r\nContent-Length: "
_MEMO_SECTIONS = 512
_MEMO_SECTION_BYTES = 1024
_MEMO_FIELDS = 64


class Section:
    """What field lines say. Never changed once it is read: many heads share one. `sent` are the lines that go on.

    `upgrade` is the protocol that Connection asks to change to. `cookies` are promgate's own, which do not go on; a
    section with cookies is never remembered. `passed_on`: it says for whom, so another proxy sends it (or claims to).
    """

    __slots__ = ("agent", "chunked", "close", "cookies", "expects", "host", "passed_on", "sent", "upgrade")

    def __init__(self) -> None:
        self.sent = b""
        self.host: bytes | None = None
        self.agent = b""
        self.chunked = False
        self.close = False
        self.expects = False
        self.upgrade = b""
        self.passed_on = False
        self.cookies: tuple[tuple[bytes, bytes], ...] = ()


class Told(NamedTuple):
    """A section, and what stood among its lines and is no part of it. `credential`: the whole line between its CRLF."""

    section: Section
    length: int
    credential: bytes | None
    authorization: bytes


class SectionMemo(dict[bytes, Section]):
    """The octets of a section, each line with a CRLF on either side -> what they say."""

    __slots__ = ("_fresh", "fields")

    def __init__(self, drop: frozenset[bytes]) -> None:
        """`drop`: lower-case names of fields that no client may set."""
        super().__init__()
        self.fields = FieldMemo(f.REQUEST_FIELDS, drop)
        self._fresh: tuple[bytes, Section] | None = None

    def keep(self) -> None:
        """Remember what was read last: its sender may fill the memo."""
        if self.fields.fresh:
            self.fields.keep()
        if self._fresh is not None:
            if len(self) >= _MEMO_SECTIONS:
                self.clear()
            raw, section = self._fresh
            self[raw] = section

    def forget(self) -> None:
        self.fields.fresh.clear()
        self._fresh = None

    def read(self, raw: bytes, max_fields: int) -> Told:
        """Judge each line, or Unlawful."""
        lines = raw[2:-2].split(b"\r\n") if len(raw) > 2 else []
        if len(lines) > max_fields:
            raise Unlawful("request head too large", 431)
        self.fields.is_missed = False
        told = _read(lines, self.fields)
        is_plain = told.length < 0 and told.credential is None and not self.fields.is_missed
        if is_plain and len(raw) <= _MEMO_SECTION_BYTES and len(lines) <= _MEMO_FIELDS:
            self._fresh = raw, told.section
        return told


def _read(lines: list[bytes], fields: FieldMemo) -> Told:
    section = Section()
    sent: list[bytes] = []
    send = sent.append
    named: list[bytes] = []
    length = -1
    credential: bytes | None = None
    authorization = b""
    for line in lines:
        verdict = fields[line]
        if isinstance(verdict, bytes):
            send(verdict)
            continue
        kind, value, as_sent = verdict
        if kind == f.HOST:
            if section.host is not None:
                raise Unlawful("two Host fields")
            section.host = value
            send(as_sent)
        elif kind == f.AGENT:
            section.agent = value
            send(as_sent)
        elif kind == f.LENGTH:
            if length >= 0:
                raise Unlawful("two Content-Length fields")
            length = int(value)
        elif kind == f.AUTHORIZATION:
            if credential is not None:
                # Which one would the upstream have believed?
                raise Unlawful("two Authorization fields")
            credential, authorization = b"\r\n%b\r\n" % line, value
        elif kind == f.COOKIE:
            others, own = take_own(value)
            section.cookies += own
            if not own:
                send(as_sent)
            elif others:
                send(b"%b: %b\r\n" % (line.partition(b":")[0], others))
        elif kind != f.DROP:
            _special(section, kind, value, named)
    if section.upgrade and set(named) - _NEVER_NAMED != {b"upgrade"}:
        section.upgrade = b""  # RFC 9110 7.8: Connection must name it, and may take nothing else from a handshake
    section.sent = b"".join(f.without(sent, named, _NEVER_NAMED) if named else sent)
    return Told(section, length, credential, authorization)


def _special(section: Section, kind: int, value: bytes, named: list[bytes]) -> None:
    if kind == f.ENCODING:
        if section.chunked:
            raise Unlawful("two Transfer-Encoding fields")
        section.chunked = True
    elif kind == f.EXPECT:
        if value.lower() != b"100-continue":
            raise Unlawful("unknown expectation", 417)
        section.expects = True
    elif kind == f.UPGRADE:
        section.upgrade = value.lower() if not section.upgrade else b","  # two are none that we know
    elif kind == f.PASSED_ON:
        section.passed_on = True
    elif kind == f.CONNECTION:
        options = f.listed(value)
        section.close = section.close or b"close" in options
        named += options


#: Naming these in Connection changes nothing: they are the message's own, not the connection's.
_NEVER_NAMED = frozenset({b"close", b"keep-alive", b"host", b"user-agent"})
