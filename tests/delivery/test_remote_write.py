"""The one-sample request, as others read it: snappy by another implementation, protobuf by hand."""

from __future__ import annotations

import struct

import cramjam
import pytest

from proxy.delivery.remote_write import encode
from tests.kit import remote_write as reference


def test_the_same_as_one_made_by_others():
    """All labels but one: the name."""
    mine = encode({"__name__": "up"}, 12.5, 1_700_000_000_123)
    theirs = reference.build_body("up", 12.5, 1_700_000_000.123)
    assert cramjam.snappy.decompress_raw(mine) == cramjam.snappy.decompress_raw(theirs)


@pytest.mark.parametrize("length", [1, 10, 17, 18, 19, 20, 60, 61, 100, 255, 256, 257, 4000, 60_000])
def test_every_length_is_read_back(length):
    body = bytes(cramjam.snappy.decompress_raw(encode({"__name__": "x" * length}, 1.0, 1)))
    assert b"x" * length in body
    assert body.endswith(b"\x09" + struct.pack("<d", 1.0) + b"\x10\x01")


def test_labels_are_sorted():
    """The specification wants them so; Prometheus refuses others."""
    body = bytes(cramjam.snappy.decompress_raw(encode({"token": "t", "__name__": "m", "name": "n"}, 0.0, 0)))
    assert body.index(b"__name__") < body.index(b"name\x12\x01n") < body.index(b"token")
