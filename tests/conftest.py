"""What holds for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.kit.rig import build

if TYPE_CHECKING:
    from pathlib import Path

# A machine that is busy with other tests is no defect: pytest-timeout catches what never ends.
settings.register_profile("promgate", deadline=None)
settings.load_profile("promgate")


@pytest.fixture(scope="session")
def rig_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes a disk fail under a process (`tests/kit/rig.py`)."""
    return build(tmp_path_factory.mktemp("rig"))
