"""Made-up cells."""

import pytest

from .world import draw


@pytest.fixture(scope="session")
def world():
    """Cells whose noise and shifts are known."""
    return draw()
