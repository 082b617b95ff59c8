from __future__ import annotations

import pytest

from tests.config.conftest import certs  # noqa: F401 - a fixture

CONFIG = """
version: 1
listen: [127.0.0.1:9443]
tokens: {store: "sqlite:///state/promgate.db", overlap_period: 1h, max_overlap: 2h}
routes:
  - name: write
    path: /api/v1/write
    methods: [POST]
    upstream: http://127.0.0.1:9090
    kind: remote_write
    auth: [write_token]
    allow: [write]
"""


@pytest.fixture
def config(tmp_path):
    """A config whose store does not exist yet."""
    file = tmp_path / "promgate.yml"
    file.write_text(CONFIG)
    return file
