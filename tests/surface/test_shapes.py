"""Few cells, one gene, one batch, types that are rare: a result, or a message of the package."""

from __future__ import annotations

import traceback
from pathlib import Path

import numpy as np
import pytest

import scmedal_tools as smt

from .calls import CALLS, called

pytestmark = pytest.mark.slow

HERE = Path(smt.__file__).parent
# NaN where they say so: of genes that do not vary, groups that are alone, and spare pixels.
MAY_BE_NAN = {"components", "scores", "cross-validation", "shifts", "group effects", "genomap"}


def refused(models, adata):
    """Calls that end in a message; what is computed has to be finite."""
    raised_in = {}
    for call in CALLS:
        try:
            values = called(call, models, adata)
        except ValueError as error:
            raised_in[call] = traceback.extract_tb(error.__traceback__)[-1].filename
        else:
            assert np.isfinite(values).all() or call in MAY_BE_NAN, call
    assert all(Path(file).is_relative_to(HERE) for file in raised_in.values()), raised_in
    return set(raised_in)


def without_variance(adata):
    adata.X[:, 2], adata.X[:, 3] = 0, 0.5
    adata.layers["counts"][:, 2:4] = 0
    return adata


def a_batch_of_one_cell(adata):
    return adata[(adata.obs["donor"] != "donor 5") | (adata.obs_names == "cell 5")].copy()


def hardly_labelled(adata):
    for column in ("cell_type", "kind"):
        adata.obs.loc[adata.obs_names[24:], column] = "unlabeled"
    return adata


def one_kind(adata):
    adata.obs["kind"] = "kind 0"
    return adata


def one_gene(adata):
    return adata[:, :1].copy()


# With the calls that end in a message.
TRAINED = {
    without_variance: set(),
    a_batch_of_one_cell: {"cross-validation", "folds"},
    hardly_labelled: {"swaps"},
    one_kind: {
        "confounding", "cross-validation", "donor prediction", "held out", "scores", "swaps",
    },
    one_gene: {"Harmony", "PCA", "genomap"},
}  # fmt: skip


@pytest.mark.parametrize("change", TRAINED)
def test_trained_on(study, train, change):
    adata = change(study.copy())
    assert refused(train(adata), adata.copy()) == TRAINED[change]


def no_cell(adata):
    return adata[:0]


def one_cell(adata):
    return adata[:1]


def one_donor(adata):
    return adata[adata.obs["donor"] == "donor 0"]


def cells_of_one_kind(adata):
    return adata[adata.obs["kind"] == "kind 0"]


def no_gene(adata):
    return adata[:, :0]


OF_GROUPS = {"abundance", "cross-validation", "donor prediction", "gene test", "group effects"}
OF_GROUPS |= {"mixing", "scores", "shifts", "swaps", "PCA", "Harmony", "held out", "pseudobulk"}
ASKED = {
    no_cell: set(CALLS) - {"effects", "similarity", "prepared", "splits"},
    one_cell: OF_GROUPS | {"confounding", "folds", "genomap", "preprocessed", "umap"},
    one_donor: OF_GROUPS | {"confounding"},
    no_gene: set(CALLS) - {"effects", "similarity", "confounding", "folds", "splits", "held out"},
}


@pytest.mark.parametrize("select", ASKED)
def test_asked_for(study, models, select):
    assert refused(models, select(study).copy()) == ASKED[select]
