"""MrVI's counterfactuals, on counts with a planted shift."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from scvi.external import MRVI

from scmedal_tools import bm

pytestmark = pytest.mark.slow

N_CELLS, N_GENES = 600, 40
CELLS = np.array([7, 3, 300, 40, 41, 299])


@pytest.fixture(scope="module")
def world():
    """Three donors and two types, of which each gene differs by the same factor."""
    rng = np.random.default_rng(0)
    donor, kind = rng.integers(3, size=N_CELLS), rng.integers(2, size=N_CELLS)
    shifts = 0.7 * rng.normal(size=(3, N_GENES))
    rates = np.exp(1 + rng.normal(size=(2, N_GENES))[kind] + shifts[donor])
    obs = pd.DataFrame({"donor": donor, "cell_type": kind}).astype(str)
    adata = AnnData(rng.poisson(rates).astype(np.float32), obs=obs)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    MRVI.setup_anndata(adata, sample_key="donor")
    model = MRVI(adata)
    model.train(max_epochs=60, accelerator="cpu", enable_progress_bar=False)
    yield SimpleNamespace(model=model, adata=adata, totals=adata.X.sum(1))
    scvi.settings.seed = None
    torch.set_num_threads(n_threads)


def test_planted_shifts_are_recovered(world):
    log_normalised = np.log1p(world.adata.X / world.totals[:, None] * 1e4)
    adata = AnnData(log_normalised, obs=world.adata.obs)
    cells = np.arange(N_CELLS)
    shifts = bm.counterfactual_shift(
        {"MrVI": bm.mrvi_counterfactual(world.model, world.totals)},
        adata,
        "donor",
        "cell_type",
        train=cells[::2],
        test=cells[1::2],
        baselines=False,
        progress=False,
    )
    assert len(shifts) == 3 * 2 * 2
    assert shifts["correlation"].min() > 0.7
    assert shifts["error"].median() < 0.5


def test_u_is_of_the_cells_own_donor_and_z_of_the_target(world):
    """The network's parts called one by one; means of 500 draws have errors below 0.05."""
    predict = bm.mrvi_counterfactual(world.model, world.totals, target_sum=100, n_samples=500)
    parts, counts = world.model.module, torch.from_numpy(world.adata.X[CELLS])
    own = torch.tensor(world.adata.obs["donor"].astype(int).to_numpy()[CELLS])[:, None]
    torch.manual_seed(0)
    with torch.no_grad():
        posterior = parts.qu(counts, own, training=False)
        u = posterior.mean + posterior.scale * torch.randn(500, *posterior.mean.shape)
        base, change = parts.qz(u, torch.full_like(own, 2))
        size = counts.sum(1, keepdim=True)
        draws = parts.px(base + change, torch.zeros_like(own), size_factor=size).sample().numpy()
    totals = world.totals[CELLS][:, None]
    expected = np.log1p(draws / totals * 100).mean(0)
    np.testing.assert_allclose(predict(CELLS, "2"), expected, atol=0.2)
    assert np.abs(predict(CELLS, "0") - expected).max() > 0.5
    assert np.abs(predict(CELLS[::-1], "2") - expected).max() > 0.5


def test_repeats_itself_and_leaves_the_generator_alone(world):
    predict = bm.mrvi_counterfactual(world.model, world.totals, n_samples=2)
    first = predict(CELLS, "1")
    assert first.shape == (6, N_GENES)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    np.testing.assert_array_equal(predict(CELLS, "1"), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_sample(world):
    predict = bm.mrvi_counterfactual(world.model, world.totals)
    with pytest.raises(ValueError, match=r"no sample '3'.*\['0', '1', '2'\]"):
        predict(CELLS, "3")
