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
    found = set()
    for call in CALLS:
        try:
            values = called(call, models, adata)
        except ValueError as error:
            raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
            assert Path(raised_in).is_relative_to(HERE), f"{call}: {error}"
            found.add(call)
        else:
            assert np.isfinite(values).all() or call in MAY_BE_NAN, call
    return found


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


TRAINED = {
    without_variance: set(),
    a_batch_of_one_cell: set(),
    hardly_labelled: set(),
    one_kind: set(),
    lambda adata: adata[:, :1].copy(): set(),
}


@pytest.mark.parametrize("change", TRAINED)
def test_trained_on(study, train, change):
    adata = change(study.copy())
    print("@@", change, sorted(refused(train(adata), adata.copy())))


ASKED = {
    lambda adata: adata[:0]: set(),
    lambda adata: adata[:1]: set(),
    lambda adata: adata[adata.obs["donor"] == "donor 0"]: set(),
    lambda adata: adata[adata.obs["kind"] == "kind 0"]: set(),
    lambda adata: adata[:, :0]: set(),
}


@pytest.mark.parametrize("select", ASKED)
def test_asked_for(study, models, select):
    adata = select(study).copy()
    print("@@", adata.shape, sorted(refused(models, adata)))
