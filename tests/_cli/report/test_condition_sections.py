"""What the report says of a condition: numbers of genes, and cell types that were not tested."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from scmedal_tools._cli._report._condition_sections import condition_sections
from scmedal_tools._cli._report._few_cells import few_cells

TYPES, DONORS = ["B", "T", "NK"], ["d1", "d2", "d3"]


def _row(state, contrast, adj_p_value, variable="MPO"):
    return {
        "variable": variable, "state": state, "contrast": contrast, "log_fc": 1.0, "se": 0.1,
        "p_value": adj_p_value / 10, "adj_p_value": adj_p_value, "n_donors": 3,
    }  # fmt: skip


@pytest.fixture
def text_of():
    """Give a function that says what a table leads to; there are 12 cells, of NK 9 in d2."""
    obs = [
        (d, t) for d in DONORS for t in TYPES for _ in range(9 if (d, t) == ("d2", "NK") else 12)
    ]

    def text_of(*rows):
        run = SimpleNamespace(
            job=SimpleNamespace(batch_key="donor", labels_key="type", condition_key="dose"),
            adata=SimpleNamespace(obs=pd.DataFrame(obs, columns=["donor", "type"])),
            group_effects=SimpleNamespace(table=pd.DataFrame(rows)),
            untested="",
            figures=Path("absent"),
        )
        (section,) = condition_sections(run)
        return section.text

    return text_of


def test_genes_are_counted_once_for_each_type_and_over_all(text_of):
    rows = [_row("B", "high - no", 0.01), _row("B", "low - no", 0.01)]
    rows += [_row("T", "high - no", 0.2), _row("overall", "high - no", 0.04, "CD14")]
    said, *_ = text_of(*rows)
    assert "of 0.05: 1 in B, 0 in T, 1 over all types. " in said


def test_cell_types_that_were_not_tested_are_named_with_their_cells(text_of):
    _, said = text_of(_row("B", "high - no", 0.2), _row("T", "high - no", 0.2))
    assert said.startswith("Not tested: NK. A test needs a donor of each group with")
    assert "with 10 cells or more" in said
    assert said.endswith("Counted by donor, NK has fewer than 10 cells in 1 of 3.")


def test_comparisons_that_a_type_lacks_are_named(text_of):
    rows = [_row(t, c, 0.2) for t in TYPES for c in ("high - no", "low - no")]
    assert len(text_of(*rows)) == 1
    _, said = text_of(*rows[:1], *rows[2:])
    assert said.startswith("Not tested: B (low - no). ")
    assert "fewer" not in said


def test_levels_with_few_cells_are_counted_the_worst_first():
    n_cells = pd.DataFrame(
        {"B": [9, 10, 0], "T": [10, 10, 10], "NK": [1, 2, 3]}, index=pd.Index(DONORS, name="donor")
    )
    assert few_cells(n_cells) == (
        "Counted by donor, NK has fewer than 10 cells in 3 of 3, B in 2 of 3."
    )
    assert few_cells(n_cells[["T"]]) == ""
    many = pd.DataFrame({f"t{i}": [1] for i in range(7)}, index=pd.Index(["d"], name="donor"))
    assert few_cells(many).endswith("t4 in 1 of 1 and 2 more.")
