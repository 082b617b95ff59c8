"""Where a body ends, judged on the raw bytes as they pass (RFC 9112 6 and 7.1).

`feed` hands back what may be sent on: the same bytes in the common case, a rewritten line where a
size was not plain. A framing line is sent on only when it is whole, and the last one only when the body
is. Extensions are stripped and bounded, trailers dropped: neither has a reader behind us,
and both have carried attacks.
"""

from __future__ import annotations

from proxy.wire.fields import MAX_LINE_BYTES, split_field
from proxy.wire.grammar import plain_chunk_size
from proxy.wire.unlawful import Unlawful

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)
_EXTENSION_BYTES = 16 * 1024
_TRAILER_BYTES = 16 * 1024
_EXTENSION_OCTETS = bytes(range(0x21, 0x7F)) + b" \t"


class LengthBody:
    """A body of a known length. `feed` as ChunkedBody's; `size` is the whole of it."""

    __slots__ = ("_left", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._left = size

    def feed(self, data: bytes, at: int = 0) -> tuple[bytes | memoryview, int]:
        """A view is handed back where `data` also holds something else, so that nothing large is copied."""
        end = at + self._left
        left = end - len(data)
        if left > 0:
            self._left = left
            return memoryview(data)[at:] if at else data, -1
        self._left = 0
        return data if not at and not left else memoryview(data)[at:end], end


class ChunkedBody:
    """A chunked body. `size` counts the octets of content announced so far."""

    __slots__ = ("_extension", "_left", "_partial", "_state", "_trailer", "size")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0
        self._partial = b""
        self._extension = _EXTENSION_BYTES
        self._trailer = _TRAILER_BYTES
        self.size = 0

    def feed(self, data: bytes, at: int = 0) -> tuple[bytes | memoryview, int]:
        """(bytes to send on, index after the end of the body or -1 while it goes on); Unlawful for bad framing."""
        out: list[bytes] = []
        raw = at  # data[raw:at] passes as it stands
        end = len(data)
        while at < end:
            if self._state == _DATA:
                step = min(self._left, end - at)
                at += step
                self._left -= step
                if self._left == 0:
                    self._state = _DATA_END
                continue
            after = self._plain(data, at)
            if after > at:
                at = after
                continue
            out.append(data[raw:at])
            line, at = self._line(data, at)
            raw = at
            if line is not None and self._take(line, out):
                return b"".join(out), at
        if not out:
            return data[raw:] if raw else data, -1
        out.append(data[raw:])
        return b"".join(out), -1

    def _plain(self, data: bytes, at: int) -> int:
        """The index after a framing line that can be sent on as it is, or `at`."""
        if self._partial:
            return at
        if self._state == _DATA_END and data.startswith(b"\r\n", at):
            self._state = _SIZE
            return at + 2
        if self._state == _SIZE:
            eol = data.find(b"\r\n", at, at + 18)
            if eol > 0 and plain_chunk_size(data, at, eol):
                self._open(int(data[at:eol], 16))
                return eol + 2
        return at

    def _line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """One line that ends in CRLF, put together over several reads; None while it is not whole."""
        eol = data.find(b"\n", at)
        if eol < 0:
            self._partial += data[at:]
            if len(self._partial) > MAX_LINE_BYTES or (self._state == _DATA_END and self._partial != b"\r"):
                raise Unlawful("malformed chunk")
            if b"\r" in self._partial[:-1]:  # the rest of the line, which may never come, cannot heal it
                raise Unlawful("malformed chunk")
            return None, len(data)
        line = self._partial + data[at : eol + 1]
        self._partial = b""
        if line[-2:] != b"\r\n" or b"\r" in line[:-2] or len(line) > MAX_LINE_BYTES:
            raise Unlawful("malformed chunk")
        return line[:-2], eol + 1

    def _take(self, line: bytes, out: list[bytes]) -> bool:
        """Act on one framing line that needs a closer look; True when the body has ended."""
        if self._state == _DATA_END:
            if line:
                raise Unlawful("malformed chunk")  # longer than its size
            self._state = _SIZE
            out.append(b"\r\n")
        elif self._state == _SIZE:
            digits = self._size(line)
            if digits:
                self._open(int(digits, 16))
                out.append(digits + b"\r\n")
            else:
                self._state = _TRAILER
        elif line:
            split_field(line)
            self._trailer -= len(line)
            if self._trailer < 0:
                raise Unlawful("trailer section too large", 431)
        else:
            out.append(b"0\r\n\r\n")
            return True
        return False

    def _open(self, size: int) -> None:
        self.size += size
        self._left = size
        self._state = _DATA

    def _size(self, line: bytes) -> bytes:
        """The digits of a chunk's size without leading zeros: none for the last chunk."""
        digits, semicolon, extension = line.partition(b";")
        if semicolon and (extension.translate(None, _EXTENSION_OCTETS) or not extension.strip(b" \t")):
            raise Unlawful("malformed chunk extension")
        digits = digits.rstrip(b" \t")
        significant = digits.lstrip(b"0")
        if not digits or (significant and plain_chunk_size(significant) is None):
            raise Unlawful("malformed chunk size")
        self._extension -= len(line) - len(significant)
        if self._extension < 0:
            raise Unlawful("chunk extensions too large")
        return significant


Body = LengthBody | ChunkedBody
