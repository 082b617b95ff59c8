from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.routing import Router, is_blocked
from tests.gate.play import READ, WRITE

SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "A"]), max_size=4)
PREFIXES = st.builds(lambda segments, end: "/" + "/".join(segments) + end, SEGMENTS, st.sampled_from(["", "", "/"]))


def named(*paths):
    return [replace(READ, name=path, path=path) for path in paths]


def longest_prefix(routes, path):
    """What the router does, said naively: segment by segment."""
    best = None
    wanted = path.decode().split("/")
    for route in routes:
        prefix = route.path.rstrip("/").split("/")
        if wanted[: len(prefix)] == prefix and (best is None or len(prefix) > len(best.path.rstrip("/").split("/"))):
            best = route
    return best


@given(st.lists(PREFIXES, max_size=6, unique_by=lambda path: path.rstrip("/")), SEGMENTS, st.sampled_from(["", "/"]))
def test_the_longest_prefix_of_whole_segments_wins(prefixes, segments, end):
    routes = named(*prefixes)
    path = ("/" + "/".join(segments) + end).encode()
    assert Router(routes).find(path) == longest_prefix(routes, path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/prometheus", "/prometheus"),
        (b"/prometheus/", "/prometheus"),
        (b"/prometheus/api", "/prometheus"),
        (b"/prometheus/api/v1/write", "/prometheus/api/v1/write"),
        (b"/prometheus/api/v1/write/x", "/prometheus/api/v1/write"),
        (b"/prometheus/api/v1/writex", "/prometheus"),
        (b"/prometheusX", None),  # P1
        (b"/prometheus.evil", None),
        (b"/prometheus;x", None),
        (b"/PROMETHEUS", None),  # P4
        (b"/", None),
        (b"*", None),
    ],
)
def test_find(path, found):
    route = Router([READ, WRITE]).find(path)
    assert (route.path if route else None) == found


def test_a_path_of_thousands_of_segments_costs_no_more_look_ups_than_the_longest_prefix_has_segments():
    class Counted(dict):
        looks = 0

        def get(self, key):
            self.looks += 1
            return super().get(key)

    router = Router(named("/", "/a/b", "/x"))
    router._by_prefix = Counted(router._by_prefix)
    assert router.find(b"/a" * 8000).path == "/"
    assert router.find(b"/a/b" + b"/c" * 8000).path == "/a/b"
    assert router._by_prefix.looks <= 2 * 3


def test_a_root_route_takes_what_is_left():
    router = Router(named("/", "/a"))
    assert [router.find(path).path for path in (b"/", b"/x", b"/a", b"/ab", b"/a/b")] == ["/", "/", "/a", "/", "/a"]


@pytest.mark.parametrize("prefix", ["/", "/p", "/p/"])
@pytest.mark.parametrize(
    ("rest", "plain", "write"),
    [
        (b"/api/v1/query", False, False),
        (b"/api/v1/admin", True, True),
        (b"/api/v1/admin/tsdb/delete_series", True, True),
        (b"/api/v1/administer", False, False),
        (b"/-/quit", True, True),
        (b"/-/quit/", True, True),
        (b"/-/reload", True, True),
        (b"/-/healthy", False, False),
        (b"/debug", True, True),
        (b"/debug/pprof/profile", True, True),
        (b"/debugging", False, False),
        (b"/api/v1/write", True, False),
        (b"/api/v1/read", True, False),
        (b"/api/v1/otlp/v1/metrics", True, False),
        (b"/api/v1/otlp/v1/metrics2", False, False),
        (b"/x/api/v1/admin", True, True),  # the upstream may be mounted below the route
        (b"/x/-/quit", True, True),
        (b"/x/-/quitter", False, False),
        (b"/x/api/v1/write", True, False),
        (b"/x/debug/pprof/heap", True, True),
        (b"/api/v1/label/debug/values", False, False),
    ],
)
def test_what_no_route_opens_by_itself(prefix, rest, plain, write):
    path = prefix.rstrip("/").encode() + rest
    assert is_blocked(replace(READ, path=prefix), path) is plain
    assert is_blocked(replace(WRITE, path=prefix), path) is write


@pytest.mark.parametrize(
    ("prefix", "path", "plain"),
    [
        ("/p/api/v1", b"/p/api/v1/admin/tsdb/snapshot", True),
        ("/p/api/v1", b"/p/api/v1/write", True),
        ("/p/api/v1", b"/p/api/v1/query", False),
        ("/p/api", b"/p/api/v1/admin", True),
        ("/api", b"/api/v1/admin", True),
        ("/p/-", b"/p/-/quit", True),
        ("/p/api/v1/otlp", b"/p/api/v1/otlp/v1/metrics", True),
        ("/p/api/v1", b"/p/api/v1/administer", False),
        ("/p/api/v1", b"/p/api/v1/x/api/v1/admin", True),
        # named by the route itself: opened by it
        ("/p/api/v1/admin", b"/p/api/v1/admin/tsdb/snapshot", False),
        ("/p/api/v1/admin/tsdb", b"/p/api/v1/admin/tsdb/snapshot", False),
        ("/p/debug", b"/p/debug/pprof", False),
        ("/p/api/v1/write", b"/p/api/v1/write", False),
    ],
)
def test_a_prefix_within_the_upstreams_api_opens_nothing_by_accident(prefix, path, plain):
    assert is_blocked(replace(READ, path=prefix), path) is plain
