"""Reads a case file: a header that gives the verdict, then sections that give the bytes. README.md tells the format."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: `{token}` becomes a real one when the case is played.
WORDS = {"nothing": b"", "token": b"{token}", "forwarded": b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"}
REFUSALS = frozenset({400, 411, 413, 414, 417, 431, 501, 505})
COUNTS = {"ONE": 1, "TWO": 2, "THREE": 3, "FOUR": 4, "FIVE": 5}
HEADER_KEYS = frozenset({"id", "expect", "note", "upstream", "answer at", "methods", "delivery", "server"})
SECTIONS = frozenset({"each", "request", "upstream sees", "upstream answers", "client sees", "client body"})


class Act(enum.Enum):
    """What a sender does between two pieces of bytes."""

    PAUSE = "pause"
    UNTIL_UPSTREAM = "until upstream"  # until the upstream holds a whole head
    HOLD = "hold"  # upstream only: until the test lets go
    HALF_CLOSE = "half-close"
    CLOSE = "close"
    CUT = "cut"  # a close as whoever stands between makes it: in TLS, without the word that it was meant
    RESET = "reset"


Steps = tuple[bytes | Act, ...]


@dataclass(frozen=True)
class Verdict:
    """`requests` whole ones reach the upstream and the client gets `answers`; then, maybe, an end.

    REJ: one refusal and a close, not a byte upstream for it. CUT: the same, but a part of the request may have gone up,
    on a connection that is then closed. CLOSE: the connection ends cleanly and what follows is never read. SHUT: it
    ends without an answer.
    """

    requests: int
    answers: tuple[str, ...]
    end: str = ""
    end_statuses: frozenset[int] = REFUSALS


@dataclass(frozen=True)
class Case:
    name: str
    ids: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    request: Steps
    expect: str
    upstream_sees: bytes | None = None
    upstream_answers: tuple[Steps, ...] = ()
    client_sees: bytes | None = None
    client_body: bytes | None = None
    upstream_closed: bool = False
    answer_at_head: bool = False
    methods: tuple[str, ...] = ()
    whole_only: bool = False
    server: str = "open"


class CaseError(ValueError):
    """The file is no case; the text says where."""


_TOKEN = re.compile(rb"\\x([0-9a-fA-F]{2})|\\([rnt0\\])|\{([^{}]+)\}|([^\\{}]+)", re.DOTALL)
_PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def parse_steps(text: str) -> Steps:
    """Escapes and macros into bytes and acts. A line end of the file itself is nothing: `\\r\\n` is written out."""
    steps: list[bytes | Act] = []
    held = bytearray()
    data = text.replace("\n", "").encode("ascii")
    at = 0
    while at < len(data):
        found = _TOKEN.match(data, at)
        if found is None:
            raise CaseError(f"cannot read {data[at : at + 20]!r}")
        at = found.end()
        if found[3] is None:
            held += bytes.fromhex(found[1].decode()) if found[1] else _PLAIN[found[2]] if found[2] else found[4]
            continue
        word = found[3].decode()
        piece, star, count = word.rpartition("*")
        if word in WORDS:
            held += WORDS[word]
        elif star and count.isdigit():
            held += b"".join(step for step in parse_steps(piece) if isinstance(step, bytes)) * int(count)
        else:
            if held:
                steps.append(bytes(held))
                held.clear()
            steps.append(Act(word))
    if held:
        steps.append(bytes(held))
    return tuple(steps)


def parse_verdict(text: str) -> Verdict:
    """`REJ|CUT [status..]`, `SHUT`, `DENY status`, `LOCAL status`, `ONE [answer..] [then REJ|CUT|CLOSE ..]`."""
    first, _, then = (part.strip() for part in text.partition("then"))
    word, *rest = first.split()
    if word in {"REJ", "CUT"}:
        return Verdict(0, (), word, frozenset(map(int, rest)) or REFUSALS)
    if word == "SHUT":
        return Verdict(0, (), word)
    if word in {"DENY", "LOCAL"}:
        return Verdict(0, tuple(rest))
    requests = COUNTS[word]
    end, *statuses = then.split() or [""]
    return Verdict(requests, tuple(rest) or ("200",) * requests, end, frozenset(map(int, statuses)) or REFUSALS)


def load_cases(path: Path) -> list[Case]:
    """The case in `path`, or one for each row of its `each` section."""
    head, *parts = re.split(r"^--- (.+)\n", path.read_text("ascii"), flags=re.MULTILINE)
    header = dict(line.split(": ", 1) for line in head.splitlines() if line)
    sections = list(zip(parts[::2], parts[1::2], strict=True))
    unknown = (header.keys() - HEADER_KEYS) | ({name for name, _ in sections} - SECTIONS)
    if unknown or not {"id", "expect"} <= header.keys():
        raise CaseError(f"{path.name}: unknown {sorted(unknown)}, or no id or expect")
    rows = [line.split(" | ") for name, body in sections if name == "each" for line in body.splitlines()]
    if not rows:
        return [build_case(path.stem, header, sections)]
    return [
        build_case(f"{path.stem}[{name.strip()}]", header, [(title, fill(body, columns)) for title, body in sections])
        for name, *columns in rows
    ]


def fill(body: str, columns: list[str]) -> str:
    """The text with `{each}` and `{sees}` replaced by the columns of one row."""
    each, *sees = (column.rstrip(" ") for column in columns)
    return body.replace("{each}", each).replace("{sees}", sees[0] if sees else "")


def build_case(name: str, header: dict[str, str], sections: list[tuple[str, str]]) -> Case:
    def bodies(title: str) -> list[Steps]:
        return [parse_steps(body) for found, body in sections if found == title]

    def exact(title: str) -> bytes | None:
        found = bodies(title)
        return b"".join(step for step in found[0] if isinstance(step, bytes)) if found else None

    return Case(
        name=name,
        ids=tuple(header["id"].split()),
        verdicts=tuple(map(parse_verdict, header["expect"].split(" or "))),
        request=bodies("request")[0],
        upstream_sees=exact("upstream sees"),
        upstream_answers=tuple(bodies("upstream answers")),
        client_sees=exact("client sees"),
        client_body=exact("client body"),
        upstream_closed=header.get("upstream") == "closed",
        answer_at_head=header.get("answer at") == "head",
        methods=tuple(header.get("methods", "").split()),
        whole_only=header.get("delivery") == "whole",
        server=header.get("server", "open"),
        expect=header["expect"],
    )
