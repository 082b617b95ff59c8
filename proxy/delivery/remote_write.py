"""A remote-write 1.0 request of one sample: protobuf, in snappy's block format.

Both are written here in a few lines, for a request of ours is small and its shape is fixed: protobuf by the wire
format of https://protobuf.dev/programming-guides/encoding/, with the fields of Prometheus' prompb/remote.proto and
types.proto; snappy as one literal that is not compressed
(https://github.com/google/snappy/blob/main/format_description.txt, 1 and 2.1). Every decoder takes it. A compressor
would be a dependency for 100 bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: https://prometheus.io/docs/specs/prw/remote_write_spec/ "Protocol".
HEADERS: Final = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def encode(labels: Mapping[str, str], value: float, at_ms: int) -> bytes:
    """The body of a request with one sample. `labels` holds `__name__`."""
    # WriteRequest{1: TimeSeries}, TimeSeries{1: Label, 2: Sample}, Label{1: name, 2: value}, Sample{1: value, 2: at}
    pairs = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, labels[name].encode())) for name in sorted(labels)
    )
    sample = b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at_ms)
    return _snappy(_field(1, pairs + _field(2, sample)))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _snappy(content: bytes) -> bytes:
    """The length, then one literal: its tag holds a length up to 60; 61 says that two bytes of it follow."""
    size = len(content) - 1
    tag = bytes([size << 2]) if size < 60 else bytes([61 << 2]) + struct.pack("<H", size)
    return _varint(len(content)) + tag + content
