"""The stack holds what the models say of the cells, standardised over all of it."""

import anndata as ad
import numpy as np
import pytest

from scmedal_tools import tl
from scmedal_tools.model import SCMEDAL_FEC

DONORS = [f"donor_0{i}" for i in range(1, 5)]
LABELS = {"batch_key": "donor", "labels_key": "cell_type"}


@pytest.fixture(scope="module")
def models(fit, cells):
    """FEC and RE of the same cells, of which one gene is constant."""
    adata = cells.copy()
    return adata, fit("SCMEDAL_FEC", adata, LABELS), fit("SCMEDAL_RE", adata)


@pytest.fixture(scope="module")
def stack(models):
    return tl.projection_stack(*models, cells=12)


def part(stack, projection, target=None):
    rows = stack.obs["projection"] == projection
    return stack[rows & (stack.obs["target"] == target)] if target else stack[rows]


def test_rows_are_cells_within_projections(stack):
    assert stack.n_obs == 12 * (2 + 4)
    blocks = stack.obs.reset_index().groupby(np.arange(72) // 12)
    assert all(list(block["cell"]) == list(stack.obs["cell"][:12]) for _, block in blocks)
    named = [block["projection"].unique().tolist() for _, block in blocks]
    assert named == [["original"], ["FEC"], *4 * [["RE"]]]
    assert list(stack.obs["target"].cat.categories) == DONORS
    assert stack.obs["target"].isna().sum() == 24
    assert stack.obs_names.is_unique


def test_networks_of_ones_own_are_named_by_what_they_are(models, monkeypatch):
    adata, fe, re = models
    monkeypatch.setattr(fe, "__class__", type("MyNetwork", (SCMEDAL_FEC,), {}))
    monkeypatch.setattr(
        type(fe), "get_corrected_expression", lambda *_, **__: adata.X[:12].toarray()
    )
    names = tl.projection_stack(adata, fe, re, cells=12).obs["projection"].unique()
    assert list(names) == ["original", "FEC", "RE"]


def test_values_are_those_of_the_models(models, stack):
    adata, fe, re = models
    cells = list(stack.obs["cell"][:12])
    positions = adata.obs_names.get_indexer(cells)
    expected = {
        ("original", None): adata.X[positions].toarray(),
        ("FEC", None): fe.get_corrected_expression(indices=positions),
        ("RE", "donor_03"): re.get_counterfactual_expression(
            indices=positions, transform_batch="donor_03"
        ),
    }
    for of, values in expected.items():
        np.testing.assert_allclose(part(stack, *of).layers["expression"], values, atol=1e-5)
    assert (stack.obs["batch"][:12].to_numpy() == adata.obs["donor"].iloc[positions]).all()
    assert (stack.obs["cell_type"][:12].to_numpy() == adata.obs["cell_type"].iloc[positions]).all()


def test_genes_are_standardised_over_the_stack(stack):
    np.testing.assert_allclose(stack.X.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(stack.X.std(0), 1, atol=1e-4)
    back = stack.X * stack.var["sd"].to_numpy() + stack.var["mean"].to_numpy()
    np.testing.assert_allclose(back, stack.layers["expression"], atol=1e-4)


def test_constant_genes_are_zero(stack):
    from scmedal_tools.tl._projection_stack import _stacked

    own = stack.obs[:12].set_index("cell")[["batch"]]
    constant = np.full((12, 2), 0.1, dtype=np.float32)
    constant[0, 1] = 3
    found = _stacked({("original", ""): constant}, own, stack.var_names[:2])
    assert (found.X[:, 0] == 0).all()
    assert np.isfinite(found.X).all()
    assert found.X[:, 1].std() == pytest.approx(1)


def test_draw_is_even_over_batches_and_of_training_cells(models, stack):
    adata, _, re = models
    assert (stack.obs["batch"][:12].value_counts() == 3).all()
    trained_on = set(adata.obs_names[re.train_indices])
    assert set(stack.obs["cell"]) <= trained_on
    other = tl.projection_stack(*models, cells=12, seed=1)
    assert set(other.obs["cell"]) != set(stack.obs["cell"])
    all_of_them = tl.projection_stack(*models, cells=10_000)
    assert set(all_of_them.obs["cell"]) == trained_on


def test_cell_types_and_batches_are_chosen(models):
    kind = models[0].obs["cell_type"].cat.categories[0]
    found = tl.projection_stack(*models, cells=6, cell_type=kind, batches=["donor_03", "donor_02"])
    assert set(found.obs["cell_type"]) == {kind}
    assert set(found.obs["batch"]) == {"donor_02", "donor_03"}
    assert list(found.obs["target"].cat.categories) == ["donor_03", "donor_02"]


def test_named_cells(models):
    names = list(models[0].obs_names[[7, 2]])
    found = tl.projection_stack(*models, cells=names)
    assert list(found.obs["cell"][:2]) == names
    batch = models[0].obs.loc[names[0], "donor"]
    with pytest.raises(ValueError, match=f"batches has not .*{batch}"):
        tl.projection_stack(*models, cells=names, batches=[d for d in DONORS if d != batch])


def test_survives_a_file(stack, tmp_path):
    stack.write_h5ad(tmp_path / "stack.h5ad")
    read = ad.read_h5ad(tmp_path / "stack.h5ad")
    np.testing.assert_array_equal(read.X, stack.X)
    assert read.obs["target"].isna().equals(stack.obs["target"].isna())


class TestErrors:
    def test_models(self, models, fit, cells):
        adata, fe, re = models
        with pytest.raises(TypeError, match="has no random effects"):
            tl.projection_stack(adata, re, fe)
        fewer = cells[:, :50].copy()
        with pytest.raises(ValueError, match="differ in their genes"):
            tl.projection_stack(adata, fit("SCMEDAL_FE", fewer), re)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"batches": ["donor_9"]}, r"batches=\['donor_9'\]: choose from donor_01"),
            ({"batches": []}, r"batches=\[\]"),
            ({"cell_type": "Zebra"}, r"cell_type=\['Zebra'\]"),
            ({"cells": ["nobody"]}, r"cells=\['nobody'\]"),
            ({"cells": 0}, "cells=0"),
            ({"cells": -1}, "cells=-1 has to be at least 1"),
            ({"labels_key": "kind"}, "labels_key='kind' is not a column"),
        ],
    )
    def test_arguments(self, models, arguments, message):
        with pytest.raises(ValueError, match=message):
            tl.projection_stack(*models, **arguments)
