"""Whatever a model is asked for, cells that do not fit it are refused, never computed with."""

from __future__ import annotations

import pytest

from .calls import CALLS, called

pytestmark = pytest.mark.slow

NO_NEW_CELLS = {"effects"}
NO_MODEL = {
    "group effects",
    "genomap",
    "confounding",
    "cross-validation",
    "donor prediction",
    "PCA",
    "folds",
}
OF_MODELS = sorted(set(CALLS) - NO_NEW_CELLS - NO_MODEL)
OF_STATES = {"donors", "distances"}


def counts(adata):
    adata.X = adata.layers["counts"]
    return adata


def other_genes(adata):
    return adata[:, 1:].copy()


def reversed_genes(adata):
    return adata[:, ::-1].copy()


def new_type(adata):
    adata.obs["cell_type"] = "new"
    return adata


SPOILT = {
    counts: "raw counts",
    other_genes: r"1 of the \d+ genes",
    reversed_genes: "another order",
    new_type: "not trained on: new",
}


@pytest.fixture(scope="module")
def without_states(study, train):
    """A model that has no effects on single genes, and so less to check."""
    return train(study.copy(), n_states=0)


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("call", OF_MODELS)
def test_refused(study, models, without_states, call, spoil):
    for trained in (models, without_states):
        if trained is models or call not in OF_STATES:
            with pytest.raises(ValueError, match=SPOILT[spoil]):
                called(call, trained, spoil(study.copy()))
