"""Expression as all jobs take it, and what is kept of the counts."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmedal_tools._cli._prepare_expression import prepare_expression
from scmedal_tools._cli._run_job import Run, RunJob
from scmedal_tools._cli._timed_steps import TimedSteps
from scmedal_tools._data import slots


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of so few genes
def test_totals_are_of_all_genes_in_double_precision(form):
    """A total of half precision ends at 65,504."""
    counts = np.random.default_rng(0).poisson(9, (60, 40)).astype(np.float32)
    counts[:, :4] = [60_000, 40_000, 30_000, 20_000]
    counts[:, 0] += 32 * np.arange(60)
    obs = pd.DataFrame({"donor": ["a", "b"] * 30}, index=[f"cell {i}" for i in range(60)])
    half = counts.astype(np.float16)
    adata = ad.AnnData(form(half if form is np.asarray else counts), obs)
    steps = TimedSteps(lambda _: None)
    assert prepare_expression(adata, "donor", None, None, 10, steps)
    assert adata.n_vars == 10
    expected = (half if form is np.asarray else counts).sum(1, dtype=np.float64)
    np.testing.assert_array_equal(adata.obs[slots.TOTAL_COUNTS], expected)


def test_genes_that_were_selected_before_are_a_doubt():
    counts = np.random.default_rng(0).poisson(1.0, (60, 40)).astype(np.float32)
    obs = pd.DataFrame({"donor": ["a", "b"] * 30, "total": counts.sum(1) + 1.0})
    whole = ad.AnnData(counts, obs.set_index(obs.index.astype(str)))
    whole.raw = whole
    for key, doubtful in ((None, True), ("total", False)):
        steps, some = TimedSteps(lambda _: None), whole[:, :20].copy()
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            prepare_expression(some, "donor", None, key, None, steps)
        assert ("--size-factor-key" in steps.doubt) is doubtful


@pytest.mark.parametrize("logarithms", [False, True])
@pytest.mark.parametrize("had_totals", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_totals_of_other_counts_are_not_used(logarithms, had_totals, tmp_path):
    counts = np.random.default_rng(0).poisson(3.0, (60, 40)).astype(np.float32)
    obs = pd.DataFrame({"donor": ["a", "b"] * 30}, index=[f"cell {i}" for i in range(60)])
    adata = ad.AnnData(np.log1p(counts / 12) if logarithms else counts, obs)
    if had_totals:
        adata.obs[slots.TOTAL_COUNTS] = 9.0
    run = Run(adata, RunJob("donor"), tmp_path, lambda _: None)
    run._preprocess()
    known = had_totals if logarithms else not had_totals
    assert run._total_counts == (slots.TOTAL_COUNTS if known else None)
