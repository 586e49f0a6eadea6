"""Messages about missing packages name an extra that exists, as the documentation does."""

import re
import tomllib
from pathlib import Path

import pytest

from scmedal_tools._how_to_install import how_to_install

ROOT = Path(__file__).parents[1]
SOURCE = {path: path.read_text() for path in sorted((ROOT / "src").rglob("*.py"))}
NAMED = {
    extra
    for text in SOURCE.values()
    for extra in re.findall(r"how_to_install\(['\"]([\w-]+)['\"]\)", text)
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_extras_that_are_named_exist():
    assert {"benchmark", "genes", "genomap"} < NAMED <= set(EXTRAS)


@pytest.mark.parametrize("page", ["docs/installation.md", "docs/user_guide/any_corrector.md"])
def test_the_command_is_that_of_the_documentation(page):
    command = 'pip install ".[benchmark]"'
    assert command in how_to_install("benchmark")
    assert f"`{command}`" in (ROOT / page).read_text()


def test_nothing_sends_users_to_an_index_that_lacks_the_package():
    assert [path.name for path, text in SOURCE.items() if "scmedal-tools[" in text] == []
