"""Embeddings side by side, against scikit-learn's standardisation."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from sklearn.preprocessing import StandardScaler

from scmedal_tools import tl
from scmedal_tools.tl._umap import umap_key


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    wide = rng.normal(50, 10, (60, 5)).astype(np.float32)
    return AnnData(obsm={"X_pca": wide, "X_re": rng.normal(0, 1e-3, (60, 2))})


def test_is_the_standardised_concatenation(adata):
    before = adata.copy()
    assert tl.combine(adata, ["X_re", "X_pca"]) == "X_combined"
    combined = adata.obsm["X_combined"]
    both = np.hstack([adata.obsm["X_re"], adata.obsm["X_pca"].astype(float)])
    np.testing.assert_allclose(combined, StandardScaler().fit_transform(both), atol=1e-5)
    assert combined.dtype == np.float32
    for key in before.obsm:
        np.testing.assert_array_equal(adata.obsm[key], before.obsm[key])


def test_is_standardised_on_the_training_cells(adata):
    splits = np.split(np.random.default_rng(1).permutation(60), [30, 45])
    tl.combine(adata, ["X_pca", "X_re"], "X_both", splits=splits)
    both = np.hstack([adata.obsm["X_pca"].astype(float), adata.obsm["X_re"]])
    expected = StandardScaler().fit(both[splits[0]]).transform(both)
    np.testing.assert_allclose(adata.obsm["X_both"], expected, atol=1e-5)
    assert adata.uns["scmedal"]["X_both"]["standardised_on"] == "training cells"


def test_values_of_other_cells_do_not_reach_the_training_cells(adata):
    splits = np.split(np.arange(60), [30, 45])
    tl.combine(adata, ["X_pca", "X_re"], splits=splits)
    first = adata.obsm["X_combined"][:30].copy()
    adata.obsm["X_pca"][30:] *= 100
    tl.combine(adata, ["X_pca", "X_re"], splits=splits)
    np.testing.assert_array_equal(adata.obsm["X_combined"][:30], first)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_constant_columns_become_zero(adata):
    # The mean of thirty times 0.1 differs from it in the last digit, and the s.d. from zero.
    adata.obsm["X_pca"][:, 1] = 5
    adata.obsm["X_re"][:30, 0] = 0.1
    assert adata.obsm["X_re"][:30, 0].std() > 0
    tl.combine(adata, ["X_pca", "X_re"], splits=np.split(np.arange(60), [30, 45]))
    assert (adata.obsm["X_combined"][:, [1, 5]] == 0).all()
    assert np.isfinite(adata.obsm["X_combined"]).all()


def test_order_of_the_cells_does_not_matter(adata):
    order = np.random.default_rng(2).permutation(60)
    shuffled = adata[order].copy()
    for cells in (adata, shuffled):
        tl.combine(cells, ["X_pca", "X_re"])
    np.testing.assert_allclose(
        shuffled.obsm["X_combined"], adata.obsm["X_combined"][order], atol=1e-5
    )


def test_record_is_kept_beside_others_and_in_a_file(adata, tmp_path):
    adata.uns["scmedal"] = {"X_re": {"model": "SCMEDAL_RE"}}
    adata.obsm[umap_key("X_both")] = np.zeros((60, 2))
    tl.combine(adata, ["X_pca", "X_re"], "X_both")
    assert umap_key("X_both") not in adata.obsm  # it was of another embedding
    adata.write_h5ad(tmp_path / "cells.h5ad")
    records = ad.read_h5ad(tmp_path / "cells.h5ad").uns["scmedal"]
    assert set(records) == {"X_re", "X_both"}
    assert list(records["X_both"]["embeddings"]) == ["X_pca", "X_re"]
    assert list(records["X_both"]["n_columns"]) == [5, 2]
    assert records["X_both"]["standardised_on"] == "all cells"


def test_result_serves_the_neighbours(adata):
    # Of the two methods the one for which nothing is compiled.
    key = tl.combine(adata, ["X_pca", "X_re"])
    sc.pp.neighbors(adata, use_rep=key, n_neighbors=5, method="gauss")
    assert adata.obsp["connectivities"].shape == (60, 60)


class TestErrors:
    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (["X_pca"], "two embeddings or more"),
            ([], "one embedding or more"),
            (["X_pca", "X_pca"], "each once"),
            ("X_pca", r"write \['X_pca'\]"),
            (["X_pca", "X_combined"], "would overwrite"),
        ],
    )
    def test_wrong_keys(self, adata, keys, message):
        adata.obsm["X_combined"] = adata.obsm["X_pca"]
        with pytest.raises(ValueError, match=message):
            tl.combine(adata, keys)

    def test_missing_keys(self, adata):
        with pytest.raises(KeyError, match=r"'X_fe', 'X_fec' not in.*X_pca.*X_re"):
            tl.combine(adata, ["X_fe", "X_pca", "X_fec"])

    def test_missing_values(self, adata):
        adata.obsm["X_re"][4, 0] = np.inf
        with pytest.raises(ValueError, match=r"X_re.*missing or infinite values in 1 of 60"):
            tl.combine(adata, ["X_pca", "X_re"])
        assert "X_combined" not in adata.obsm
