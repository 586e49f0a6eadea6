"""Nothing that is fitted in a fold sees the expression or the types of its test cells."""

import gc

import numpy as np
import pytest
from anndata import AnnData

from scmedal_tools import datasets, pp
from scmedal_tools.bm._cross_validation._embedders import Fold
from scmedal_tools.train import cross_validation_folds

pytestmark = pytest.mark.slow

OWN = {"max_epochs": 1, "n_hidden": (16, 8), "n_latent": 3}
COMPARATOR = {"max_epochs": 1, "n_latent": 3}


@pytest.fixture(scope="module")
def adata() -> AnnData:
    adata = datasets.simulated(n_donors=6, n_genes=60, cell_scale=0.3, seed=0)
    pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    return adata


def with_other_test_cells(adata: AnnData, test: np.ndarray) -> AnnData:
    """The same cells but for those of the test, which are swapped and have twice the values."""
    rows, scale = np.arange(adata.n_obs), np.ones(adata.n_obs, dtype=np.float32)
    rows[test], scale[test] = np.random.default_rng(0).permutation(test), 2
    changed = adata.copy()
    for layer in (None, "counts"):
        values = (adata.X if layer is None else adata.layers[layer])[rows]
        values.data *= np.repeat(scale, np.diff(values.indptr))
        if layer is None:
            changed.X = values
        else:
            changed.layers[layer] = values
    changed.obs["cell_type"] = adata.obs["cell_type"].to_numpy()[rows]
    return changed


# Harmony and Scanorama see all cells, by design.
@pytest.mark.parametrize("scheme", ["cells", "donors"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("pca", {"n_latent": 3}),
        *((name, COMPARATOR) for name in ("ae", "aec", "aec_batch", "saucie", "scvi", "scanvi")),
        *((name, OWN) for name in ("FE", "FEC", "RE")),
    ],
)
def test_training_latents_do_not_depend_on_the_test_cells(adata, method, settings, scheme):
    keys = ["condition"] if scheme == "donors" else ()
    split = cross_validation_folds(
        adata, "donor", "cell_type", n_folds=3, scheme=scheme, condition_keys=keys
    ).splits[0]
    train, _, test = split
    before, after = (
        Fold(cells, "donor", "cell_type", split, seed=0).embed(method, method, settings)
        for cells in (adata, with_other_test_cells(adata, test))
    )
    before, after = before.latents[method], after.latents[method]
    np.testing.assert_array_equal(before[train], after[train])
    assert not np.array_equal(before[test], after[test])


@pytest.mark.parametrize("name", ["FE", "RE"])
def test_cells_of_a_fold_do_not_stay_in_memory(adata, name):
    def n_held():
        gc.collect()
        return sum(type(thing) is AnnData for thing in gc.get_objects())

    split = cross_validation_folds(adata, "donor", "cell_type", n_folds=3).splits[0]
    before = n_held()
    Fold(adata, "donor", "cell_type", split, seed=0).embed(name, name, OWN)
    assert n_held() == before
