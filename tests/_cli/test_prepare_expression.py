"""Expression as all jobs take it, and what is kept of the counts."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmedal_tools._cli._prepare_expression import prepare_expression
from scmedal_tools._cli._steps import Steps
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
    steps = Steps(lambda _: None)
    assert prepare_expression(adata, "donor", None, None, 10, steps)
    assert adata.n_vars == 10
    expected = (half if form is np.asarray else counts).sum(1, dtype=np.float64)
    np.testing.assert_array_equal(adata.obs[slots.TOTAL_COUNTS], expected)
