"""The tables in the documentation are those of the saved results."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def _load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


update_tables = _load(ROOT / "benchmarks" / "update_tables.py")
PAGES = update_tables.pages()
BLOCKS = [
    pytest.param(*block.groups()[1:4], id=f"{page.stem}-{block[2]}.{block[3]}")
    for page in PAGES
    for block in update_tables.BLOCK.finditer(page.read_text())
]


@pytest.mark.slow
@pytest.mark.parametrize(("script", "name", "shown"), BLOCKS)
def test_table_is_that_of_the_results(script, name, shown):
    assert shown == update_tables.tables_of(script)[name].strip() + "\n", (
        "run `python benchmarks/update_tables.py`"
    )


@pytest.mark.parametrize("script", sorted(p.stem for p in (ROOT / "benchmarks").glob("*.py")))
def test_script_can_be_imported(script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    assert importlib.import_module(script).__doc__


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


def _results(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["results"]


class TestNumbersOfThePaper:
    """A wrong copy shows: the paper prints means with intervals around them."""

    @pytest.fixture(autouse=True)
    def modules(self):
        update_tables.tables_of("paper_directions")

    def pairs(self):
        return sys.modules["_paper_pairs"].pairs(_results("evaluation_cells"))

    def test_every_mean_is_the_middle_of_its_interval(self):
        numbers = sys.modules["_paper_numbers"]
        assert len(numbers.NUMBERS) == 4 * 11 + 2 * 16 + 2 * 12
        for key, (mean, lower, upper) in numbers.NUMBERS.items():
            rounding = 0.0101 / numbers.UNITS.get(key[1], 1)
            assert lower <= mean <= upper, key
            assert mean == pytest.approx((lower + upper) / 2, abs=rounding), key

    def test_claims_that_its_own_numbers_contradict(self):
        """A wrong copy would most likely turn one of the others."""
        claims = sys.modules["paper_directions"].compared()
        against = claims[claims["in_paper"] == "no"]
        assert set(against["claim"]) == {
            "corrected embeddings separate cell types less than PCA and AE"
        }
        assert set(zip(against["a"], against["b"], against["metric"], strict=True)) == {
            *((a, b, metric) for a in ("scvi", "saucie") for b in ("pca", "ae")
              for metric in ("1/DB", "CH")),
            ("scanorama", "pca", "CH"),
        }  # fmt: skip
        assert (claims["in_paper"] == "yes").sum() > 90

    def test_all_pairs_are_compared(self):
        pairs = self.pairs()
        found = {(row.metric, row.of, frozenset((row.a, row.b))) for row in pairs.itertuples()}
        assert len(found) == len(pairs)
        assert len(pairs) == 4 * (11 * 10 // 2) + 2 * (16 * 15 // 2) + 2 * (12 * 11 // 2)
        assert (pairs["paper_a"] >= pairs["paper_b"]).all()

    def test_pages_say_how_much_agrees(self):
        pairs, claims = self.pairs(), sys.modules["paper_directions"].compared()
        of_all = sys.modules["_paper_pairs"].in_sum(pairs)[0]
        said = f"of {of_all['compared']} pairs of methods"
        agree = f"{of_all['agrees']} ({of_all['agrees'] / of_all['compared']:.0%})"
        for page in ("reproducing_the_paper.md", "results/paper_directions.md"):
            text = (ROOT / "docs" / page).read_text()
            assert said in text
            assert agree in text
        types = pairs[(pairs["kind"] == "S8") & (pairs["of"] == "label")]
        types = sys.modules["_paper_pairs"].counts(types)
        assert f"{types['agrees']} of {types['compared']}" in text
        assert f"{claims['agrees'].sum()} of {len(claims)}" in text


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


@pytest.fixture
def mutants(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("mutants")


def test_every_mutant_has_a_verdict_and_all_but_a_twentieth_are_killed(mutants):
    rows = json.loads((ROOT / "benchmarks/results/mutants.json").read_text())["results"]
    verdicts = {
        mutants.Mutant(*(row[name] for name in mutants.Mutant._fields)): row for row in rows
    }
    assert [mutant.after for mutant in mutants.MUTANTS if mutant not in verdicts] == []
    survivors = [row for row in rows if row["result"] != "killed"]
    assert [row["after"] for row in survivors if not row["why"]] == []
    assert len(survivors) <= 0.05 * len(rows)


def test_the_soak_neither_failed_nor_grew():
    record = json.loads((ROOT / "benchmarks/results/soak.json").read_text())
    assert record["failures"] == 0
    held = [of_round["megabytes"] for of_round in record["results"][1:]]
    _, middle, last = np.array_split(held, 3)
    assert np.mean(last) <= 1.005 * np.mean(middle)


def test_every_mutant_changes_one_place_of_the_code(mutants):
    places = {
        mutant: (ROOT / mutants.PACKAGE / mutant.file).read_text().count(mutant.before)
        for mutant in mutants.MUTANTS
    }
    assert {mutant.before: n for mutant, n in places.items() if n != 1} == {}
