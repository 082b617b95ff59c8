from datetime import UTC, datetime, timedelta

import pytest

from proxy.pki.authority import Leaf, issue, make_authority


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with an authority and the pairs `one` and `two` (which ends a month later)."""
    directory = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC)
    make_authority(directory, now)
    issue(directory, Leaf("one", dns=["localhost"]), now - timedelta(days=30))
    issue(directory, Leaf("two", dns=["localhost"]), now)
    return directory
