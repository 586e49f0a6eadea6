"""The commands that there are."""

from __future__ import annotations

import pytest

from ..shell import succeed

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def test_help_names_all_commands():
    output = succeed("--help")
    assert all(name in output for name in ("run", "evaluate", "demo"))
