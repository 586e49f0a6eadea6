"""Cells of six donors."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def six_donors():
    """With an embedding, which costs no training; copy before changing them."""
    from scmedal_tools import datasets, pp

    adata = datasets.simulated(n_donors=6, n_genes=60, cell_scale=0.3, seed=0)
    pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3)).astype("f")
    return adata


@pytest.fixture
def adata(six_donors):
    """A copy of the cells that the test may change."""
    return six_donors.copy()
