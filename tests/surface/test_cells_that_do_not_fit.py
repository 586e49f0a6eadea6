"""Whatever a model is asked for, cells that do not fit it are refused, never computed with."""

from __future__ import annotations

import numpy as np
import pytest

import scmedal_tools as smt
from scmedal_tools.bm._counterfactuals import known_cells

from .calls import CALLS, called, parts_of

pytestmark = pytest.mark.slow

NO_NEW_CELLS = {"effects", "similarity"}
NO_MODEL = {
    "group effects",
    "genomap",
    "confounding",
    "cross-validation",
    "donor prediction",
    "PCA",
    "Harmony",
    "folds",
    "splits",
    "held out",
    "preprocessed",
    "pseudobulk",
}
MAKES_THEM_FIT = {"prepared"}
OF_MODELS = sorted(set(CALLS) - NO_NEW_CELLS - NO_MODEL - MAKES_THEM_FIT)
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


@pytest.mark.parametrize("order", [slice(10, None), slice(None, None, -1)])
def test_positions_are_those_in_the_cells_of_training(models, study, tmp_path, order):
    models.re.save(tmp_path / "re")
    loaded = smt.model.SCMEDAL_RE.load(tmp_path / "re", adata=False)
    train, _, test = parts_of(study)
    for model in (models.re, loaded):
        found = known_cells({"RE": model}, study, None, None)
        np.testing.assert_array_equal(found[0], train)
        np.testing.assert_array_equal(found[1], test)
        with pytest.raises(ValueError, match=r"are the train cells.*holds these cells"):
            known_cells({"RE": model}, study[order], None, None)
