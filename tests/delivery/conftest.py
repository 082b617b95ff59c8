from __future__ import annotations

import pytest

from tests.delivery.play import Endpoint, make_pair


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def endpoint(pair):
    with Endpoint(pair) as running:
        yield running
