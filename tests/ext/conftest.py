"""Every comparator on few cells, with a donor that no method is trained on."""

from functools import cache

import numpy as np
import pytest

NETWORK = {"n_hidden": (16, 8), "n_latent": 4, "max_epochs": 2, "progress": False}
VAE = {"n_hidden": 8, "n_latent": 4, "n_layers": 1, "max_epochs": 2, "batch_size": 64}
QUICK = {
    "pca": {"n_latent": 4},
    "harmony": {"n_latent": 4},
    "scanorama": {"n_latent": 4},
    "ae": NETWORK,
    "aec": NETWORK,
    "aec_batch": NETWORK,
    "saucie": NETWORK,
    "scvi": VAE | {"progress": False},
    "scanvi": VAE | {"progress": False},
}


@pytest.fixture(autouse=True)
def in_one_thread(one_thread):
    """Every test here."""


@pytest.fixture(params=list(QUICK))
def method(request):
    return request.param


@pytest.fixture(scope="session")
def splits(cells):
    """Training, validation and test cells; all of donor_04 are test cells."""
    unseen = (cells.obs["donor"] == "donor_04").to_numpy()
    known = np.flatnonzero(~unseen)
    return [known[::2], known[1::4], np.concatenate([known[3::4], np.flatnonzero(unseen)])]


@pytest.fixture(scope="session")
def embed():
    """Give a function that runs a comparator quickly and returns what it wrote."""
    import scmedal_tools as smt

    def embed(method, adata, **kwargs):
        arguments = {"batch_key": "donor", "labels_key": "cell_type"} | QUICK[method] | kwargs
        return adata.obsm[getattr(smt.ext, method)(adata, **arguments)]

    return embed


@pytest.fixture(scope="session")
def usual(cells, splits, embed):
    """Give a function that embeds the cells with or without the splits, once for all tests."""

    @cache
    def usual(method, with_splits):
        return embed(method, cells.copy(), splits=splits if with_splits else None)

    return usual
