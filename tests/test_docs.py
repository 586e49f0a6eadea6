"""What the documentation must not miss."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import scmedal_tools as smt

ROOT = Path(__file__).parents[1]
API = (ROOT / "docs" / "api.md").read_text()


def _listed(module: str) -> set[str]:
    block = re.search(rf"currentmodule:: scmedal_tools\.{module}\n(.*?)```", API, re.DOTALL)
    return set(re.findall(r"^(?:   |\.\. data:: )(\w+)$", block[1], re.MULTILINE))


@pytest.mark.parametrize("module", smt.__all__)
def test_reference_lists_every_public_name(module):
    assert _listed(module) == set(importlib.import_module(f"scmedal_tools.{module}").__all__)


@pytest.mark.parametrize("command", ["uv run scmedal demo", "uv run pytest"])
def test_readme_has_the_two_commands(command):
    assert f"\npip install uv && {command}\n" in (ROOT / "README.md").read_text()
