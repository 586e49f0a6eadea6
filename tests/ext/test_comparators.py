"""What holds for every comparator."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from scmedal_tools import ext

INDUCTIVE = sorted(set(ext.__all__) - {"JOINT"} - ext.JOINT)


def changed(adata, cells):
    """Copy in which the genes of some cells are in reverse order."""
    adata = adata.copy()
    for layer in (None, "counts"):
        x = (adata.X if layer is None else adata.layers[layer]).toarray()
        x[cells] = x[cells, ::-1]
        if layer is None:
            adata.X = csr_matrix(x)
        else:
            adata.layers[layer] = csr_matrix(x)
    return adata


class TestWhatIsWritten:
    def test_embedding_of_every_cell_and_a_record(self, method, adata, splits, embed):
        adata.obsm[f"X_umap_{method}"] = np.ones((240, 2))
        before = adata.copy()
        latent = embed(method, adata, splits=splits)
        key = f"X_{method}"
        assert latent is adata.obsm[key]
        assert latent.shape == (240, 4)
        assert latent.dtype == np.float32
        assert np.isfinite(latent).all()
        assert (latent.std(0) > 0).all()
        record = adata.uns["scmedal"][key]
        assert record["model"] == method
        assert record["batch_key"] == "donor"
        assert record["joint"] == (method in ext.JOINT)
        assert record["n_latent"] == 4
        assert "n_latent" in json.loads(record["settings"])
        # Nothing else is changed, but that the old embedding's UMAP is gone.
        assert set(adata.obsm) == {key}
        assert set(adata.uns) == {*before.uns, "scmedal"}
        assert list(adata.obs) == list(before.obs)
        assert (adata.X != before.X).nnz == 0
        assert (adata.layers["counts"] != before.layers["counts"]).nnz == 0

    @pytest.mark.slow
    def test_can_be_saved(self, method, adata, embed, tmp_path):
        embed(method, adata, key_added="X_mine")
        adata.write_h5ad(tmp_path / "cells.h5ad")
        assert set(adata.obsm) == {"X_mine"}

    def test_other_records_stay(self, adata, embed):
        embed("pca", adata)
        embed("harmony", adata)
        assert set(adata.uns["scmedal"]) == {"X_pca", "X_harmony"}


class TestRandomState:
    @pytest.mark.slow
    def test_same_seed_same_result_and_global_generators_left_alone(
        self, method, cells, splits, embed
    ):
        first = embed(method, cells.copy(), splits=splits, seed=3)
        np.random.seed(5), torch.manual_seed(5), random.seed(5)
        expected = np.random.random(), torch.rand(1), random.random()
        np.random.seed(5), torch.manual_seed(5), random.seed(5)
        second = embed(method, cells.copy(), splits=splits, seed=3)
        assert (np.random.random(), torch.rand(1), random.random()) == expected
        np.testing.assert_array_equal(first, second)

    @pytest.mark.slow
    @pytest.mark.parametrize("method", sorted({*INDUCTIVE} - {"pca"}))
    def test_seed_is_used(self, method, cells, embed, usual):
        other = embed(method, cells.copy(), seed=1)
        assert np.abs(other - usual(method, with_splits=False)).max() > 1e-3


class TestSplits:
    @pytest.mark.slow
    @pytest.mark.parametrize("method", INDUCTIVE)
    def test_test_cells_have_no_say(self, method, cells, splits, embed, usual):
        train, _, test = splits
        first = usual(method, with_splits=True)
        second = embed(method, changed(cells, test), splits=splits)
        np.testing.assert_allclose(first[train], second[train], rtol=1e-4, atol=1e-6)
        assert np.abs(first[test] - second[test]).max() > 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("method", INDUCTIVE)
    def test_training_cells_have(self, method, cells, splits, embed, usual):
        train, _, test = splits
        first = usual(method, with_splits=True)
        second = embed(method, changed(cells, train), splits=splits)
        assert np.abs(first[test] - second[test]).max() > 1e-3

    @pytest.mark.parametrize("method", sorted(ext.JOINT))
    def test_joint_methods_see_all_cells(self, method, usual):
        alone, with_splits = (usual(method, with_splits) for with_splits in (False, True))
        np.testing.assert_array_equal(with_splits, alone)

    def test_wrong_splits(self, method, adata, splits, embed):
        train, validation, test = splits
        for wrong, message in (
            ([train, validation], "2 parts, not three"),
            ([train, validation, test[1:]], "splits: 1 of 240 cells are in no part"),
            ([train, validation, np.append(test, train[0])], "1 of 240 .* more than once"),
            ([train, validation, np.append(test, 240)], "splits names cell 240"),
            ([[], validation, np.union1d(train, test)], "no training cells"),
        ):
            with pytest.raises(ValueError, match=message):
                embed(method, adata, splits=wrong)
        assert not adata.obsm


class TestColumns:
    def test_no_such_batch(self, method, adata, embed):
        with pytest.raises(ValueError, match="batch_key='lab' is not a column"):
            embed(method, adata, batch_key="lab")

    def test_missing_batches(self, method, adata, embed):
        adata.obs["donor"] = adata.obs["donor"].astype(object)
        adata.obs.iloc[3, adata.obs.columns.get_loc("donor")] = None
        with pytest.raises(ValueError, match="missing in 1 of 240"):
            embed(method, adata)

    @pytest.mark.parametrize("method", ["aec", "scanvi"])
    def test_cell_types_are_needed(self, method, adata, embed):
        with pytest.raises(ValueError, match=f"{method} learns from cell types"):
            embed(method, adata, labels_key=None)
        with pytest.raises(ValueError, match="labels_key='type' is not a column"):
            embed(method, adata, labels_key="type")

    @pytest.mark.parametrize("method", sorted({*INDUCTIVE, *ext.JOINT} - {"aec", "scanvi"}))
    def test_or_not(self, method, adata, embed):
        embed(method, adata, labels_key=None)
        assert adata.uns["scmedal"][f"X_{method}"]["labels_key"] in ("", "donor")

    @pytest.mark.slow
    def test_batches_may_be_numbers(self, method, adata, embed, usual):
        by_name = usual(method, with_splits=False)
        adata.obs["donor"] = adata.obs["donor"].str[-1].astype(int)
        np.testing.assert_allclose(embed(method, adata), by_name, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["pca", "harmony", "ae", "saucie"])
def test_counts_are_refused(method, adata, embed):
    adata.X = adata.layers["counts"]
    with pytest.raises(ValueError, match=r"adata\.X holds raw counts"):
        embed(method, adata)
