"""What the documentation must not miss."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
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


def test_private_names_are_not_on_the_page():
    assert not re.search(r"^   \S*\b_\w+", API, re.MULTILINE)


class TestContributing:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    source = ROOT / "src" / "scmedal_tools"

    def test_tree_has_every_folder_and_file(self):
        (tree,) = re.findall(r"^\| folder in .*?\n\n", self.page, re.DOTALL | re.MULTILINE)
        *folders, (_, files) = re.findall(r"^\| (.*?) \| (.*) \|$", tree, re.MULTILINE)[1:]
        named = re.findall(r"`(\w+)`", " ".join(first for first, _ in folders))
        named += re.findall(r"`(\w+\.py)`", files)
        parts = {p.name for p in self.source.iterdir() if (p / "__init__.py").is_file()}
        parts |= {p.name for p in self.source.glob("*.py")} - {"__init__.py"}
        assert sorted(named) == sorted(parts)

    def test_walks_lead_along_what_there_is(self):
        (walks,) = re.findall(r"^## Two walks.*?^## ", self.page, re.DOTALL | re.MULTILINE)
        for path in re.findall(r"`([\w/]+\.py)`", walks):
            assert (self.source / path).is_file() or (ROOT / path).is_file(), path
        steps = re.findall(r"`([\w.]+)(?:\([^`]*\))?` \(`([\w/]+\.py)`", walks)
        assert len(steps) > 10
        for name, path in steps:
            function = name.rpartition(".")[2]
            text = (self.source / path).read_text()
            assert re.search(rf"^ *(def|class) {function}\b", text, re.MULTILINE), (name, path)


@pytest.mark.parametrize("command", ["uv run scmedal demo", "uv run pytest"])
def test_readme_has_the_two_commands(command):
    assert f"\npip install uv && {command}\n" in (ROOT / "README.md").read_text()


def test_links_of_the_page_on_pypi_are_absolute(tmp_path):
    shutil.copy(ROOT / "README.md", tmp_path)
    script = ROOT / ".ci" / "absolute_links"
    # Windows does not read the first line of a script.
    command = [sys.executable, script, "https://host/owner/name", "v1"]
    subprocess.run(command, cwd=tmp_path, check=True)
    page = (tmp_path / "README.md").read_text()
    links = re.findall(r'(?:\]\(|src=")([^)"]+)', page)
    assert all(link.startswith("https://") for link in links)
    ours = [link for link in links if "//host/" in link]
    assert len(ours) > 10
    for link in ours:
        kind, path = re.fullmatch(r"https://host/owner/name/(blob|raw)/v1/(.*)", link).groups()
        assert (ROOT / path).is_file()
        assert kind == ("raw" if path.endswith(".png") else "blob")


class TestGallery:
    page = (ROOT / "docs" / "gallery.md").read_text()
    names = re.findall(r"<scmedal_tools\.pl\.(\w+)>", page)

    def test_has_every_figure_and_its_picture(self):
        assert sorted(self.names) == sorted(smt.pl.__all__)
        pictures = {path.stem for path in (ROOT / "docs" / "_static" / "gallery").glob("*.png")}
        assert pictures == set(self.names)

    def test_who_cannot_see_a_picture_is_told_what_is_in_it(self):
        cards = re.findall(r"\n\n(.*)\n\n```\{image\} .*\n:alt: (.*)\n", self.page)
        assert len(cards) == len(self.names)
        short = [alt for caption, alt in cards if alt in caption or len(alt) < len(caption) + 20]
        assert short == []

    def test_code_is_python_that_draws_the_figure(self):
        first, *cards = self.page.split("{grid-item-card}")
        for name, card in zip([None, *self.names], [first, *cards], strict=True):
            (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
            compile(code, str(name), "exec")
            assert name is None or f"\nsmt.pl.{name}(" in f"\n{code}"
