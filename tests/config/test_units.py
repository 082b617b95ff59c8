from __future__ import annotations

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.units import (
    Address,
    format_duration,
    is_loopback,
    parse_duration,
    parse_listen,
    parse_size,
    parse_upstream,
)
from proxy.gate.snapshot import Upstream, UpstreamTls


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # The cases of Prometheus' own TestParseDuration, and those of the brief of this file.
        ("0", 0.0),
        ("0w", 0.0),
        ("0s", 0.0),
        ("324ms", 0.324),
        ("3s", 3.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("4d", 4 * 86400.0),
        ("4d1h", 4 * 86400.0 + 3600),
        ("14d", 14 * 86400.0),
        ("3w", 21 * 86400.0),
        ("3w2d1h", 23 * 86400.0 + 3600),
        ("10y", 3650 * 86400.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("90d", 90 * 86400.0),
        ("1y2w3d4h5m6s7ms", 365 * 86400 + 14 * 86400 + 3 * 86400 + 4 * 3600 + 5 * 60 + 6 + 0.007),
    ],
)
def test_duration(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    # Again Prometheus' TestParseBadDuration, then what other grammars would take.
    [
        *("1", "1y1m1d", "-1w", "1.5d", "d", "294y", "200y10400w", "107675d", "2584200h", ""),
        *("10 s", "1s1s", "5M", "\u0665s", "1e3s", "+1s", "1us", "s1", "1s\n", "9" * 5000 + "s"),
    ],
)
def test_duration_refused(text):
    with pytest.raises(ValueError, match=r"duration|longer than 292 years"):
        parse_duration(text)


@given(st.integers(0, (2**63 - 1) // 10**6))
def test_duration_is_read_back(ms):
    assert round(parse_duration(format_duration(ms / 1000)) * 1000) == ms


@given(st.text(max_size=12))
def test_duration_takes_only_its_grammar(text):
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds >= 0
    assert text == "0" or re.fullmatch(r"(\d+(y|w|d|h|m|s|ms))+", text, re.ASCII)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (90, "1m30s"), (330, "5m30s"), (86400, "1d"), (90 * 86400, "90d"), (5400, "1h30m")],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("32MB", 32 * 1024 * 1024),
        ("32MiB", 32 * 1024 * 1024),
        ("16KiB", 16 * 1024),
        ("16KB", 16 * 1024),
        ("500B", 500),
        ("1GB", 1024**3),
        ("2TB", 2 * 1024**4),
        ("0B", 0),
        ("500", 500),
    ],
)
def test_size(value, size):
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value", ["", "32M", "1.5MB", "-1B", "32 MB", "32mb", "MB", "\u0663MB", "1B\n", "-1", "\u0663"]
)
def test_size_refused(value):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(value)


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:9443", "127.0.0.1", 9443, True),
        ("127.8.9.10:1", "127.8.9.10", 1, True),
        ("[::1]:9443", "::1", 9443, True),
        ("[0:0:0:0:0:0:0:1]:9443", "0:0:0:0:0:0:0:1", 9443, True),
        ("localhost:0", "localhost", 0, True),
        (":9443", "", 9443, False),
        ("0.0.0.0:9443", "0.0.0.0", 9443, False),
        ("[::]:9443", "::", 9443, False),
        ("[::ffff:127.0.0.1]:65535", "::ffff:127.0.0.1", 65535, False),
        ("prometheus.example.net:9443", "prometheus.example.net", 9443, False),
        ("127.example.net:9443", "127.example.net", 9443, False),
    ],
)
def test_listen(text, host, port, loopback):
    address = parse_listen(text)
    assert address == Address(host, port)
    assert is_loopback(address.host) is loopback
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "9443", "127.0.0.1", "[::1]", "::1:9443", "[::1:9443", "[::1]9443", "[127.0.0.1]:1", "127.0.0.1:65536"),
        *("127.0.0.1:-1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:\u0661", "127.0.0.256:1", "127.1:1", "a b:1"),
        *("http://127.0.0.1:1", "*:9443", "-x:1", "127.0.0.1:9443/", "\u00fc:1"),
    ],
)
def test_listen_refused(text):
    with pytest.raises(ValueError, match=r"is not an address|has no port"):
        parse_listen(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_is_read_back(ip, port):
    address = Address(str(ip), port)
    assert parse_listen(str(address)) == address
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    assert socket.inet_pton(family, address.host) == ip.packed
    assert is_loopback(address.host) is (ip.is_loopback and getattr(ip, "ipv4_mapped", None) is None)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("http://127.0.0.1:9090", Upstream("127.0.0.1", 9090)),
        ("http://[::1]:9090", Upstream("::1", 9090)),
        ("http://prometheus", Upstream("prometheus", 80)),
        ("https://prometheus", Upstream("prometheus", 443, tls=UpstreamTls())),
        ("https://[::1]:9090", Upstream("::1", 9090, tls=UpstreamTls())),
        ("http://prometheus-0.monitoring.svc:9090", Upstream("prometheus-0.monitoring.svc", 9090)),
        ("unix:///run/prometheus.sock", Upstream("", 0, "/run/prometheus.sock")),
        ("unix:/run/prometheus.sock", Upstream("", 0, "/run/prometheus.sock")),
        ("unix:run/prometheus.sock", Upstream("", 0, "run/prometheus.sock")),
    ],
)
def test_upstream(text, upstream):
    assert parse_upstream(text) == upstream


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("https://", "names no host"),
        ("ftp://127.0.0.1", "'ftp://' is not taken"),
        ("HTTP://127.0.0.1:9090", "'HTTP://' is not taken"),
        ("127.0.0.1:9090", "'http://' is missing"),
        ("http://user:secret@127.0.0.1:9090", "with no user or password"),
        ("http://127.0.0.1:9090/", "write http://127.0.0.1:9090"),
        ("http://127.0.0.1:9090/prometheus", "write http://127.0.0.1:9090"),
        ("http://127.0.0.1:9090?token=secret", "write http://127.0.0.1:9090"),
        ("http://127.0.0.1:9090#secret", "write http://127.0.0.1:9090"),
        ("http://127.0.0.1:0", "names no port to connect to"),
        ("http://:9090", "names no host"),
        ("http://", "names no host"),
        ("http://127.0.0.1:port", "a port is a number"),
    ],
)
def test_upstream_refused(text, why):
    with pytest.raises(ValueError, match=why) as refused:
        parse_upstream(text)
    assert "http://host:port" in str(refused.value)
    assert "secret" not in str(refused.value)
