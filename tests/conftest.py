"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A machine that is busy with other tests is no defect: pytest-timeout catches what never ends.
settings.register_profile("promgate", deadline=None)
settings.load_profile("promgate")
