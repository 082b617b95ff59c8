from __future__ import annotations

import pytest

from proxy.wire.url import is_safe_url


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.net",
        "https://id.example.net:8443/realms/a?b=c",
        "https://[2001:db8::1]/x",
        "http://127.0.0.1:9000/keys",
        "http://127.9.9.9",
        "http://localhost:9000",
        "http://[::1]:9000/keys",
    ],
)
def test_safe(url):
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https:///keys",
        "http://id.example.net/keys",
        "http://localhost.example.net/keys",
        "http://127.0.0.1.example.net/keys",
        "http://127.0.0.1@example.net/keys",
        "https://user:word@id.example.net/keys",
        "https://id.example.net/keys#here",
        "https://id.example.net:99999/keys",
        "https://id.example.net/a b",
        "https://id.example.net/\r\nHost: x",
        "https://jürgen.example.net/",
        "HTTPS://id.example.net/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/keys",
        "127.0.0.1/keys",
    ],
)
def test_not_safe(url):
    assert not is_safe_url(url)
