"""Counterfactuals are judged by the expression that their model was registered with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scmedal_tools import bm, pl

KEYS = {"batch_key": "donor", "labels_key": "cell_type"}
TARGETS = [("donor_02", "type_1")]


@pytest.fixture(scope="module")
def trained(fit, cells):
    """A model of X, and one of a layer beside counts in X, each with its cells."""
    split = {
        "external_indexing": [np.arange(0, 240, 2), np.arange(1, 240, 4), np.arange(3, 240, 4)]
    }
    in_layer = cells.copy()
    in_layer.layers["log"] = in_layer.X.copy()
    in_layer.X = in_layer.layers["counts"].copy()
    return [
        (fit("SCMEDAL_RE", adata, setup, datasplitter_kwargs=split), adata)
        for adata, setup in ((cells.copy(), {}), (in_layer, {"layer": "log"}))
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "judge",
    [
        lambda *given: bm.counterfactual_shift(*given, **KEYS, min_cells=3, progress=False),
        lambda *given: bm.swap_quality(
            *given, **KEYS, targets=TARGETS, min_cells=3, progress=False
        ),
        lambda *given: bm.effect_recovery(*given, min_cells=3),
    ],
    ids=["counterfactual_shift", "swap_quality", "effect_recovery"],
)
def test_of_a_layer_is_that_of_x(trained, judge):
    of_x, of_layer = (judge(model, adata) for model, adata in trained)
    pd.testing.assert_frame_equal(of_layer, of_x, rtol=1e-4, atol=1e-6)


def test_points_of_gene_shifts(trained):
    scenario = {"cell_type": "type_1", "source": "donor_01", "target": "donor_02"}
    of_x, of_layer = (
        pl.gene_shifts(model, adata, **KEYS, **scenario).collections[0].get_offsets()
        for model, adata in trained
    )
    np.testing.assert_allclose(of_layer, of_x, rtol=1e-4, atol=1e-6)


def test_models_of_different_layers_are_not_compared(trained):
    models = {name: model for name, (model, _) in zip("ab", trained, strict=True)}
    with pytest.raises(ValueError, match="registered with different layers"):
        bm.counterfactual_shift(models, trained[1][1], **KEYS, progress=False)
