"""The commands that there are."""

from __future__ import annotations

import pytest

from ..shell import succeed_at_once

# Numba raises the number of threads for a UMAP.
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def test_help_names_all_commands_at_once():
    output = succeed_at_once("--help")
    assert all(name in output for name in ("run", "evaluate", "demo"))


@pytest.mark.parametrize("command", ["run", "evaluate", "reproduce", "demo"])
def test_help_on_a_command_is_there_at_once(command):
    assert "--out" in succeed_at_once(command, "--help")
