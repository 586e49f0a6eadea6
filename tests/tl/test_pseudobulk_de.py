"""PyDESeq2 on the same sums, in the same columns."""

from __future__ import annotations

import gc
import warnings
import weakref

import numpy as np
import pytest

import scmedal_tools as smt

pytestmark = pytest.mark.slow

OPTIONS = {"labels_key": "cell_type", "layer": "counts", "min_cells": 5}


@pytest.fixture(scope="module")
def counts():
    adata = smt.datasets.simulated(n_donors=8, n_genes=80, n_cell_types=2, confounding=0)
    adata.layers["counts"] = adata.X.copy()
    return adata


@pytest.fixture(scope="module")
def table(counts):
    return smt.tl.pseudobulk_de(counts, "~ condition", "donor", **OPTIONS)


def test_agrees_with_the_mixed_model(counts, table):
    other = smt.tl.group_effects(counts, "~ condition", "donor", **OPTIONS).table
    assert set(table) == set(other) - {"df", "lfsr"}
    both = table.merge(other, on=["variable", "state", "contrast"], validate="one_to_one")
    assert len(both) == len(table)
    assert both["log_fc_x"].corr(both["log_fc_y"], method="spearman") > 0.9
    for name in ("n_donors", "n_cells", "depth_ratio"):
        assert (both[f"{name}_x"] == both[f"{name}_y"]).all()
    assert set(other["state"]) - set(table["state"]) == {"overall"}


def test_adjusts_within_each_state(table):
    for _, of_state in table.dropna().groupby("state"):
        assert of_state["adj_p_value"].max() <= 1
        smallest = of_state["p_value"].min() * len(of_state)
        assert of_state["adj_p_value"].min() <= smallest + 1e-12


def test_samples_of_a_donor_are_not_taken_for_independent(counts):
    adata = counts.copy()
    adata.obs["half"] = np.where(np.arange(adata.n_obs) % 2, "x", "y")
    with pytest.raises(ValueError, match="put 'donor' into the formula"):
        smt.tl.pseudobulk_de(adata, "~ half", "donor", layer="counts")
    found = smt.tl.pseudobulk_de(adata, "~ donor + half", "donor", layer="counts")
    assert set(found["contrast"]) == {"half[T.y]"}
    assert (found["p_value"] < 0.05).mean() < 0.15


def test_several_coefficients_at_once_are_refused(counts):
    adata = counts.copy()
    adata.obs["age"] = adata.obs["donor"].cat.codes.astype(float)
    with pytest.raises(ValueError, match=r"use tl\.group_effects"):
        smt.tl.pseudobulk_de(
            adata, "~ condition + age", "donor", layer="counts",
            contrast=["condition[T.disease]", "age"],
        )  # fmt: skip


@pytest.mark.parametrize(("share", "is_warned_of"), [(0.7, False), (0.25, True)])
def test_depth_beyond_what_was_measured_is_warned_of(counts, share, is_warned_of):
    adata = counts.copy()
    diseased = (adata.obs["condition"] == "disease").to_numpy()
    thinned = np.random.default_rng(0).binomial(adata.X.toarray().astype(int), share)
    adata.X = np.where(diseased[:, None], thinned, adata.X.toarray()).astype(np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        smt.tl.pseudobulk_de(adata, "~ condition", "donor")
    of_depth = [w for w in caught if "condition[T.disease] in all cells" in str(w.message)]
    assert bool(of_depth) == is_warned_of
    assert all("in the few data sets tried" in str(w.message) for w in of_depth)
    assert all(warning.filename == __file__ for warning in of_depth)


@pytest.mark.parametrize("verb", [smt.tl.group_effects, smt.tl.pseudobulk_de])
def test_counts_that_were_reduced_to_one_depth_are_warned_of(counts, verb):
    adata = counts.copy()
    x = adata.X.toarray()
    adata.X = np.rint(x / x.sum(1, keepdims=True) * 500)
    with pytest.warns(UserWarning, match=r"adata\.X .*nearly the same total\. SCTransform"):
        verb(adata, "~ condition", "donor")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*the same total")
        verb(counts, "~ condition", "donor")


def test_few_genes_without_a_trend_are_named_once(counts):
    few = counts[:, counts.var_names[:40]].copy()
    with pytest.warns(UserWarning, match="trend") as caught:
        smt.tl.pseudobulk_de(few, "~ condition", "donor", **OPTIONS)
    (said,) = [str(w.message) for w in caught if "trend" in str(w.message)]
    assert said.startswith("PyDESeq2 found no trend")
    assert said.endswith("of all genes: type_1, type_2.")


def test_one_fit_is_in_memory_at_a_time(counts, monkeypatch):
    from pydeseq2 import dds

    fits, alive = [], []

    class Counted(dds.DeseqDataSet):
        def deseq2(self):
            gc.collect()
            alive.append(sum(fit() is not None for fit in fits))
            fits.append(weakref.ref(self))
            super().deseq2()

    monkeypatch.setattr(dds, "DeseqDataSet", Counted)
    smt.tl.pseudobulk_de(counts, "~ condition", "donor", **OPTIONS)
    assert alive == [0, 0]
