"""LEMUR's counterfactuals, on cells with a planted shift."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmedal_tools import bm

lemur = pytest.importorskip("pylemur.tl", reason="needs pylemur (the benchmark extra)").LEMUR

N_CELLS, N_GENES = 360, 30
TRAIN = np.random.default_rng(1).permutation(N_CELLS)[:240]


@pytest.fixture(scope="module")
def world():
    """Three donors and two types; of the types each donor has its own shift."""
    rng = np.random.default_rng(0)
    donor, kind = rng.integers(3, size=N_CELLS), rng.integers(2, size=N_CELLS)
    shifts = rng.normal(size=(3, 1, N_GENES)) + 0.3 * rng.normal(size=(3, 2, N_GENES))
    means = 3 * rng.normal(size=(2, N_GENES))[kind] + shifts[donor, kind]
    obs = pd.DataFrame({"donor": donor, "cell_type": kind}).astype(str)
    obs.index = [f"cell {i}" for i in range(N_CELLS)]
    adata = AnnData(means + 0.3 * rng.normal(size=means.shape), obs=obs)
    model = lemur(adata[TRAIN], design="~ donor", n_embedding=3).fit(verbose=False)
    return SimpleNamespace(adata=adata, model=model, shifts=shifts)


def test_planted_shifts_are_recovered(world):
    method = bm.lemur_counterfactual(world.model, world.adata, "donor")
    of_type = {
        kind: TRAIN[
            (world.adata.obs["donor"].iloc[TRAIN] == "0")
            & (world.adata.obs["cell_type"].iloc[TRAIN] == str(kind))
        ]
        for kind in (0, 1)
    }
    for kind, cells in of_type.items():
        for target in (1, 2):
            shift = (method(cells, str(target)) - method(cells, "0")).mean(0)
            truth = world.shifts[target, kind] - world.shifts[0, kind]
            assert np.corrcoef(shift, truth)[0, 1] > 0.9


def test_in_their_own_donor_cells_are_as_the_model_has_them(world):
    method = bm.lemur_counterfactual(world.model, world.adata, "donor")
    fitted = pd.DataFrame(world.model.predict(), index=world.model.adata.obs_names)
    for donor in "012":
        cells = np.flatnonzero(world.adata.obs["donor"] == donor)
        cells = cells[np.isin(cells, TRAIN)]
        expected = fitted.loc[world.adata.obs_names[cells]]
        np.testing.assert_allclose(method(cells, donor), expected, atol=1e-8)


def test_is_a_method_of_the_comparison_of_shifts(world):
    shifts = bm.counterfactual_shift(
        {"LEMUR": bm.lemur_counterfactual(world.model, world.adata, "donor")},
        world.adata,
        "donor",
        "cell_type",
        train=TRAIN,
        test=np.setdiff1d(np.arange(N_CELLS), TRAIN),
        baselines=False,
        progress=False,
    )
    assert len(shifts) == 3 * 2 * 2
    assert shifts["error"].max() < 0.2


def test_cells_that_it_was_not_fitted_to(world):
    method = bm.lemur_counterfactual(world.model, world.adata, "donor")
    other = np.setdiff1d(np.arange(N_CELLS), TRAIN)[0]
    with pytest.raises(ValueError, match=r"not fitted to 1 of 3 cells.*adata\[train\]"):
        method(np.array([TRAIN[0], other, TRAIN[1]]), "0")


def test_without_a_fit(world):
    model = lemur(world.adata, design="~ donor")
    with pytest.raises(ValueError, match="call its `fit`"):
        bm.lemur_counterfactual(model, world.adata, "donor")


def test_names_that_are_not_unique(world):
    adata = world.adata.copy()
    adata.obs_names = ["cell"] * N_CELLS
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        bm.lemur_counterfactual(world.model, adata, "donor")
