"""The access log: one line per request, made and written in the batches that `Observers` brings."""

from __future__ import annotations

import json
import os
import sys
import time
from random import getrandbits
from typing import TYPE_CHECKING

from proxy.observe.writing import LineWriter
from proxy.tokens.secret import withhold

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.observe.outcome import Outcome

_MEMO_TEXTS = 2048
_MEMO_TEXT_BYTES = 256
#: Visible ASCII that needs no quotes in logfmt.
_BARE = bytes(range(0x21, 0x7F)).translate(None, b'"=\\')


class AccessLog:
    """Appends to a file (made 0600, reopened when it was moved away) or to stderr. Not for threads."""

    def __init__(self, path: Path | None, log_format: str = "logfmt") -> None:
        """`path` None: stderr. OSError when the file cannot be opened."""
        self._path = path
        self._format = _json_line if log_format == "json" else _logfmt_line
        self._fd = sys.stderr.fileno() if path is None else _open(path)
        self._lines = LineWriter(self._fd)
        self.lost = 0

    def write(self, outcomes: list[Outcome]) -> None:
        """Write a line for each. A full disk or pipe costs lines, never requests: they are counted in `lost`."""
        self.lost += self._lines.write("".join(map(self._format, outcomes)).encode())

    def reopen_if_moved(self) -> None:
        """Follow logrotate: when the path no longer names our file, open it anew."""
        if self._path is None:
            return
        try:
            if os.path.samestat(os.fstat(self._fd), self._path.stat()):
                return
        except OSError:
            pass  # it is gone, or cannot be looked at: then it cannot be opened either
        try:
            fresh = _open(self._path)
        except OSError:
            return  # the old file still takes our lines
        os.close(self._fd)
        self._fd, self._lines = fresh, LineWriter(fresh)

    def close(self) -> None:
        if self._path is not None:
            os.close(self._fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


_second = _millisecond = -1
_stamp = _stamp_s = ""


def _time(at: float) -> str:
    """RFC 3339 in UTC, milliseconds; the last one is kept, since the next line's is mostly the same."""
    global _second, _millisecond, _stamp, _stamp_s
    now = int(at * 1000)
    if now != _millisecond:
        second, rest = divmod(now, 1000)
        if second != _second:
            _second, _stamp_s = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _millisecond, _stamp = now, f"{_stamp_s}.{rest:03d}Z"
    return _stamp


class _Texts(dict[bytes | str, str]):
    """value -> its logfmt spelling. Whatever is not plain is quoted and escaped: no client writes a line of its own."""

    def __missing__(self, told: bytes | str) -> str:
        # A lone surrogate must not cost the whole batch.
        value = withhold(told if isinstance(told, bytes) else told.encode(errors="backslashreplace"))
        if not value:
            text = "-"
        elif not value.translate(None, _BARE):
            text = value.decode("ascii")
        else:
            text = json.dumps(value.decode("latin-1"))
        if len(self) >= _MEMO_TEXTS:
            self.clear()
        if len(told) <= _MEMO_TEXT_BYTES:
            self[told] = text
        return text


_texts = _Texts()


def _logfmt_line(o: Outcome) -> str:
    return (
        f"ts={_time(o.at)} id={o.id or getrandbits(64):016x} client={o.ip} method={_texts[o.method]} "
        f"path={_texts[o.path]} status={o.status} "
        f"reason={o.reason} route={o.route or '-'} identity={_texts[o.identity]} token={o.token_id or '-'} "
        f"in={o.bytes_in} out={o.bytes_out} duration={o.duration_s:.6f} agent={_texts[o.agent]}\n"
    )


def _json_line(o: Outcome) -> str:
    fields = {
        "ts": _time(o.at),
        "id": f"{o.id or getrandbits(64):016x}",
        "client": o.ip,
        "method": o.method.decode("latin-1"),
        "path": withhold(o.path).decode("latin-1"),
        "status": o.status,
        "reason": o.reason,
        "route": o.route,
        "identity": o.identity,
        "token": o.token_id,
        "in": o.bytes_in,
        "out": o.bytes_out,
        "duration": round(o.duration_s, 6),
        "agent": withhold(o.agent).decode("latin-1"),
    }
    return json.dumps(fields) + "\n"
