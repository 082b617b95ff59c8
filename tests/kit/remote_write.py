"""A remote-write 1.0 request of one sample: protobuf in snappy's block format, as the specification has it."""

from __future__ import annotations

import struct
import time

import cramjam

HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": "promgate-tests",
}


def build_body(name: str, value: float, at_s: float | None = None) -> bytes:
    """WriteRequest{timeseries: [{labels: [{__name__, name}], samples: [{value, timestamp}]}]}; `at_s` None: now."""
    at_ms = int((time.time() if at_s is None else at_s) * 1000)
    label = _field(1, b"__name__") + _field(2, name.encode())
    sample = b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at_ms)
    series = _field(1, label) + _field(2, sample)
    return bytes(cramjam.snappy.compress_raw(_field(1, series)))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
