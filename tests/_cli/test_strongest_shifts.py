"""The shifts that a report shows, of known ones."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmedal_tools._cli._strongest_shifts import N_SHOWN, strongest_shifts


@pytest.fixture
def means():
    """Shifts of five groups: the last two are of too few cells, and of the target itself."""
    obs = pd.DataFrame(
        {
            "source": ["A", "B", "A", "B", "C"],
            "cell_type": ["x", "x", "y", "y", "x"],
            "n_cells": [50, 40, 30, 9, 60],
            "target": "C",
        },
        index=list("abcde"),
    )
    shift = np.zeros((5, 20), dtype="f")
    shift[:, 0] = [1.0, -2.0, 0.5, 9.0, 0.0]
    shift[:, 1] = [0.5, 3.0, -1.0, 9.0, 0.0]
    shift[:, 2] = [4.0, 0.3, 0.2, 9.0, 0.0]
    half = np.full_like(shift, 0.1)
    half[0, 2] = 5.0  # the largest is not sure
    obs = obs.astype({"source": "category", "target": "category"})  # as after it is written
    layers = {"lower": shift - half, "upper": shift + half}
    var = pd.DataFrame(index=[f"g{i}" for i in range(20)])
    return AnnData(shift, obs=obs, var=var, layers=layers)


def test_each_gene_stands_where_its_sure_shift_is_largest(means):
    table = strongest_shifts(means, "C")
    assert list(table["gene"]) == ["g1", "g0", "g2"]
    assert list(table["source"]) == ["B", "B", "B"]
    np.testing.assert_allclose(table["shift"], [3.0, -2.0, 0.3])
    np.testing.assert_allclose(table["upper"] - table["lower"], 0.2, rtol=1e-5)
    assert list(table["n_cells"]) == [40, 40, 40]


def test_there_are_ten_at_most(means):
    means.X = np.tile(np.arange(1, 21, dtype="f"), (5, 1))
    means.layers["lower"] = means.X - 0.1
    means.layers["upper"] = means.X + 0.1
    table = strongest_shifts(means, "C")
    assert list(table["gene"]) == [f"g{i}" for i in range(19, 9, -1)]
    assert len(table) == N_SHOWN


def test_without_a_sure_shift_there_is_none(means):
    means.layers["lower"][:] = -10
    means.layers["upper"][:] = 10
    table = strongest_shifts(means, "C")
    assert table.empty
    assert "gene" in table


def test_without_cell_types(means):
    del means.obs["cell_type"]
    assert list(strongest_shifts(means, "C").columns) == [
        "gene",
        "source",
        "n_cells",
        "shift",
        "lower",
        "upper",
    ]
