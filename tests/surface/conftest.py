"""Cells and models that the tables of calls share."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from anndata import AnnData
from mudata import MuData

import scmedal_tools as smt

from .calls import CALLS, Models, called, dense, parts_of

# A file gives the cells of a minibatch in its own order, and masks would fall on others.
WITHOUT = {"input_dropout": 0.0, "adversary_dropout": 0.0}
QUICK = {
    "max_epochs": 1,
    "batch_size": 64,
    "accelerator": "cpu",
    "early_stopping": False,
    "enable_progress_bar": False,
    "logger": False,
}
N_CELLS, N_GENES, N_DONORS = 144, 16, 6


@pytest.fixture(scope="session")
def study():
    """Log-normalised cells of six donors, two types and two conditions; copy before changes."""
    rng = np.random.default_rng(0)
    donor, kind = np.arange(N_CELLS) % N_DONORS, np.arange(N_CELLS) // N_DONORS % 2
    mean = rng.gamma(1.0, 3.0, N_GENES) * rng.lognormal(0, 0.5, (N_DONORS, N_GENES))[donor]
    counts = rng.poisson(mean * rng.lognormal(0, 0.7, (2, N_GENES))[kind]).astype(np.float32)
    obs = pd.DataFrame(
        {
            "donor": [f"donor {k}" for k in donor],
            "cell_type": [f"type {k}" for k in kind],
            "kind": [f"kind {k}" for k in kind],
            "condition": np.where(donor < N_DONORS // 2, "a", "b"),
            "depth": counts.sum(1),
        },
        index=[f"cell {i}" for i in range(N_CELLS)],
    )
    adata = AnnData(counts, obs, pd.DataFrame(index=[f"gene {i}" for i in range(N_GENES)]))
    smt.pp.preprocess(adata, n_top_genes=None, min_genes=1, min_cells=1)
    adata.X, adata.layers["counts"] = dense(adata.X), dense(adata.layers["counts"])
    return adata


@pytest.fixture(scope="session")
def train():
    """Give a function that trains a tiny model of each class for one epoch."""
    n_threads = torch.get_num_threads()

    def train(adata, layer=None, **of_re):
        re = _trained("RE", adata, layer, **of_re)
        return Models(re, *(_trained(name, adata, layer) for name in ("FE", "FEC")))

    yield train
    scvi.settings.seed = None
    torch.set_num_threads(n_threads)


def _trained(name, adata, layer, **settings):
    model_class = getattr(smt.model, f"SCMEDAL_{name}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few cells, and of unused categories
        if isinstance(adata, MuData):
            of_rna = dict.fromkeys(("rna_layer", "batch_key", "labels_key"), "rna")
            model_class.setup_mudata(
                adata, batch_key="donor", labels_key="cell_type", modalities=of_rna
            )
        else:
            model_class.setup_anndata(adata, "donor", labels_key="cell_type", layer=layer)
        scvi.settings.seed = 0
        torch.set_num_threads(1)
        model = model_class(adata, n_hidden=(8,), n_latent=3, **WITHOUT, **settings)
        model.train(**QUICK, datasplitter_kwargs={"external_indexing": parts_of(adata)})
    return model


@pytest.fixture(scope="session")
def models(train, study):
    return train(study.copy())


@pytest.fixture(scope="session")
def expected(study, models):
    """Numbers of every call with plain cells."""
    adata = study.copy()
    return {name: called(name, models, adata) for name in CALLS}
