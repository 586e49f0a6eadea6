"""The tables in the documentation are those of the saved results."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


update_tables = _load(ROOT / "docs" / "update_tables.py")
PAGES = update_tables.pages()
BLOCKS = [
    pytest.param(*block.groups()[1:4], id=f"{page.stem}-{block[2]}.{block[3]}")
    for page in PAGES
    for block in update_tables.BLOCK.finditer(page.read_text())
]


@pytest.mark.parametrize(("script", "name", "shown"), BLOCKS)
def test_table_is_that_of_the_results(script, name, shown):
    assert shown == update_tables.tables_of(script)[name].strip() + "\n", (
        "run `python docs/update_tables.py`"
    )


def test_there_are_tables_and_every_marker_is_understood():
    markers = sum(page.read_text().count("<!-- table:") for page in PAGES)
    assert markers == len(BLOCKS) > 0


def test_figures_of_the_pages_exist():
    figures = [
        page.parent / path
        for page in update_tables.sources()
        for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    ]
    assert ROOT / "docs" / "_static" / "new_donors.svg" in [f.resolve() for f in figures]
    assert [figure for figure in figures if not figure.is_file()] == []


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_say_what_made_them(path):
    record = json.loads(path.read_text())
    assert {"commit", "versions", "results"} <= set(record)
    assert len(record["commit"]) == 40
    assert {"scmedal-tools", "scvi-tools", "torch"} <= set(record["versions"])
    assert record["results"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_are_of_a_commit(path):
    """Otherwise the commit that a record names is not the code that ran."""
    assert json.loads(path.read_text())["uncommitted_changes"] is False


def test_directions_of_the_paper_hold_in_its_own_numbers():
    """A number that was copied wrongly would most likely turn one of them."""
    update_tables.tables_of("paper_directions")
    claimed = sys.modules["paper_directions"].directions()
    printed = [claim for claim in claimed if None not in claim.paper()]
    assert len(printed) > 80
    for claim in printed:
        a, b = claim.paper()
        assert a > b if claim.relation == ">" else a < b, claim


@pytest.mark.parametrize("design", ["random", "unequal", "by_size"])
@pytest.mark.parametrize("method", ["donor", "mannwhitney"])
def test_gene_tests_keep_to_their_level_where_nothing_is_warned_of(design, method):
    update_tables.tables_of("gene_tests")
    shares = sys.modules["_gene_test_tables"].at_level(design, method)
    assert shares.mean() <= 0.05 + 2 * shares.std(ddof=1) / len(shares) ** 0.5


def test_there_are_results():
    assert RESULTS


TABLES = {"aml": {"one": "| a |\n| - |\n| 1 |", "two": "| b |"}}


class TestFill:
    @pytest.mark.parametrize("old", ["", "| old |\n", "| old |\n| more |\n"])
    def test_replaces_what_is_between_the_markers(self, old):
        page = f"Text\n\n<!-- table: aml.one -->\n{old}<!-- end table -->\n\nmore <b>\n"
        filled = update_tables.fill(page, TABLES.get)
        expected = page.replace(f"-->\n{old}<!--", "-->\n| a |\n| - |\n| 1 |\n<!--", 1)
        assert filled == expected
        assert update_tables.fill(filled, TABLES.get) == filled

    def test_every_block_gets_its_own_table(self):
        block = "<!-- table: aml.{} -->\n<!-- end table -->\n"
        filled = update_tables.fill(block.format("two") + block.format("one"), TABLES.get)
        assert filled.index("| b |") < filled.index("| a |")

    def test_unknown_table_is_an_error(self):
        with pytest.raises(KeyError, match="three"):
            update_tables.fill("<!-- table: aml.three -->\n<!-- end table -->", TABLES.get)
