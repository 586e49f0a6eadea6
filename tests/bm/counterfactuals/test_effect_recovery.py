"""The comparison with the truth, against independent computations and models made up."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from scmedal_tools import bm, datasets, pp
from scmedal_tools.bm._counterfactuals._effect_recovery import agreement
from scmedal_tools.datasets import true_shift
from scmedal_tools.model._swap import ExpressionBlock

METRICS = ["correlation", "slope", "relative_error"]


@pytest.fixture(scope="module")
def adata():
    adata = datasets.simulated(n_donors=4, n_genes=80, n_cell_types=3, seed=3)
    pp.preprocess(adata, n_top_genes=None)
    return adata


class MadeUpModel:
    """Counterfactuals that add ``factor`` times the true shift to any reconstruction."""

    def __init__(self, adata, factor):
        self.adata, self.factor = adata, factor
        self.registry = {"setup_args": {"batch_key": "donor", "layer": None}}
        self.batch_names = adata.obs["donor"].cat.categories
        self.gene_names = adata.var_names
        self.module = SimpleNamespace(has_gene_effects=False)

    def get_counterfactual_expression(self):
        """A model with random effects has it."""

    def _iter_expression(self, of_cells, transform_batch, *_):
        """Under each of the targets; in their own donor (``None``) cells are reconstructed."""
        groups = self.adata.obs[["cell_type", "donor"]].astype(str)
        cells = slice(0, of_cells[0].n_obs)
        for target in transform_batch:
            shifts = np.zeros(self.adata.shape)
            if target is not None:
                for i, group in enumerate(groups.itertuples(index=False)):
                    shifts[i] = true_shift(self.adata, *group, target)
            yield ExpressionBlock(None, target, cells, 2 + self.factor * torch.from_numpy(shifts))


@pytest.fixture(scope="module")
def few(adata):
    """Forty cells, all of them in donors and types with a truth."""
    return adata[:40].copy()


def recovery(adata, factor, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return bm.effect_recovery(MadeUpModel(adata, factor), adata, **{"min_cells": 1} | kwargs)


class TestEffectRecovery:
    def test_the_truth_is_perfect(self, few):
        table = recovery(few, 1.0).query("method == 'MadeUpModel'")
        np.testing.assert_allclose(table["correlation"], 1, atol=1e-4)
        np.testing.assert_allclose(table["slope"], 1, atol=1e-4)
        np.testing.assert_allclose(table["relative_error"], 0, atol=1e-6)

    def test_shrunken_effects_correlate_but_are_not_calibrated(self, few):
        table = recovery(few, 0.5).query("method == 'MadeUpModel'")
        np.testing.assert_allclose(table["correlation"], 1, atol=1e-4)
        np.testing.assert_allclose(table["slope"], 2, atol=1e-4)
        np.testing.assert_allclose(table["relative_error"], 0.25, atol=1e-4)

    def test_no_effect_has_no_correlation(self, few):
        table = recovery(few, 0.0).query("method == 'MadeUpModel'")
        assert table[["correlation", "slope"]].isna().all(axis=None)
        np.testing.assert_allclose(table["relative_error"], 1)

    def test_additive_baseline_is_the_difference_of_the_donors_means(self, few):
        table = recovery(few, 1.0).query("method == 'additive'")
        row = table.iloc[3]
        x, donor = few.X.toarray(), few.obs["donor"].to_numpy()
        estimate = x[donor == row["target"]].mean(0) - x[donor == row["source"]].mean(0)
        truth = true_shift(few, row["cell_type"], row["source"], row["target"]).to_numpy()
        assert row["correlation"] == pytest.approx(stats.pearsonr(estimate, truth)[0], abs=1e-5)
        assert row["slope"] == pytest.approx(stats.linregress(estimate, truth).slope, abs=1e-5)
        error = ((estimate - truth) ** 2).sum() / (truth**2).sum()
        assert row["relative_error"] == pytest.approx(error, abs=1e-4)

    def test_every_group_goes_to_every_other_donor_by_every_method(self, few):
        table = recovery(few, 1.0)
        assert list(table) == ["method", "cell_type", "source", "target", *METRICS]
        assert (table["source"] != table["target"]).all()
        n_groups = len(few.obs[["cell_type", "donor"]].drop_duplicates())
        n_others = few.obs["donor"].nunique() - 1
        assert table["method"].value_counts().tolist() == [n_groups * n_others] * 3

    def test_small_groups_are_left_out(self, few):
        table = recovery(few, 1.0, min_cells=5)
        sizes = few.obs.groupby(["cell_type", "donor"], observed=True).size()
        expected = set(sizes.index[sizes >= 5])
        assert 0 < len(expected) < len(sizes)
        assert set(zip(table["cell_type"], table["source"], strict=True)) == expected

    def test_nothing_but_small_groups_gives_an_empty_table(self, few):
        table = recovery(few, 1.0, min_cells=1000)
        assert len(table) == 0
        assert {"method", *METRICS} <= set(table)


class TestAgreement:
    def test_matches_scipy(self):
        rng = np.random.default_rng(0)
        truth = rng.normal(size=50)
        estimate = 0.4 * truth + rng.normal(size=50)
        fit = stats.linregress(estimate, truth)
        assert agreement(estimate, truth) == pytest.approx(
            {
                "correlation": fit.rvalue,
                "slope": fit.slope,
                "relative_error": np.linalg.norm(estimate - truth) ** 2
                / np.linalg.norm(truth) ** 2,
            }
        )

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize(
        ("estimate", "truth", "missing"),
        [
            (np.full(4, 0.5), np.arange(4.0), {"correlation", "slope"}),
            (np.arange(4.0), np.zeros(4), {"correlation", "relative_error"}),
            (np.zeros(4), np.zeros(4), set(METRICS)),
        ],
    )
    def test_nothing_that_varies_gives_nan(self, estimate, truth, missing):
        result = agreement(estimate, truth)
        assert {name for name, value in result.items() if np.isnan(value)} == missing
