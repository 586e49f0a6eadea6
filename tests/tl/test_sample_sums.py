"""The total of a cell is that of all genes, also where some were selected."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import scmedal_tools as smt


@pytest.fixture
def counts():
    return smt.datasets.simulated(n_donors=6, n_genes=120, n_cell_types=2, confounding=0)


def test_totals_that_were_kept_are_those_of_all_genes(counts):
    total = np.asarray(counts.X.sum(1)).ravel()
    smt.pp.preprocess(counts, n_top_genes=40, min_genes=0)
    counts.obs["given"] = total

    def table(size_factor_key):
        options = {"layer": "counts", "size_factor_key": size_factor_key}
        return smt.tl.group_effects(counts, "~ condition", "donor", **options).table

    found = table("total_counts_all_genes")
    pd.testing.assert_frame_equal(found, table("given"))
    with pytest.warns(UserWarning, match="size_factor_key: 'total_counts_all_genes', unless"):
        of_these = table(None)
    assert (of_these["depth_ratio"] != found["depth_ratio"]).all()


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf, "deep"])
def test_totals_that_are_no_positive_numbers_are_refused(counts, value):
    counts.obs["total"] = 1.0
    counts.obs["total"] = counts.obs["total"].astype(object if value == "deep" else float)
    counts.obs.loc[counts.obs_names[0], "total"] = value
    with pytest.raises(ValueError, match=r"size_factor_key='total' is not a (positive|numeric)"):
        smt.tl.group_effects(counts, "~ condition", "donor", size_factor_key="total")


@pytest.mark.parametrize("verb", [smt.tl.group_effects, smt.tl.pseudobulk_de])
def test_selected_genes_without_totals_are_warned_of(counts, verb):
    counts.raw = counts
    some = counts[:, :40].copy()
    with pytest.warns(UserWarning, match="The 40 genes of adata have") as caught:
        verb(some, "~ condition", "donor")
    (said,) = [w for w in caught if "40 genes" in str(w.message)]
    assert said.filename == __file__
    names = {"adata": some}
    exec(str(said.message).splitlines()[-1], names)
    assert names["adata"].n_vars == 120
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The .* genes of adata have")
        verb(names["adata"], "~ condition", "donor")
