"""PCA against that of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from scmedal_tools import ext


def up_to_sign(components):
    return components * np.sign(components[np.abs(components).argmax(0), range(4)])


class TestPca:
    def test_is_fitted_to_the_training_cells(self, cells, splits, embed):
        x = cells.X.toarray()
        expected = PCA(4, svd_solver="full").fit(x[splits[0]]).transform(x)
        result = embed("pca", cells.copy(), splits=splits)
        np.testing.assert_allclose(up_to_sign(result), up_to_sign(expected), atol=1e-3)

    def test_dense_and_sparse_agree(self, cells, embed):
        dense = cells.copy()
        dense.X = dense.X.toarray()
        np.testing.assert_allclose(
            embed("pca", dense), embed("pca", cells.copy()), rtol=1e-3, atol=1e-3
        )

    @pytest.mark.parametrize("n_latent", [0, 60])
    def test_too_many_components(self, n_latent, adata, embed):
        with pytest.raises(ValueError, match=f"n_latent={n_latent} .* choose 1 to 59"):
            embed("pca", adata, n_latent=n_latent)

    def test_fifty_by_default(self, adata):
        ext.pca(adata, batch_key="donor")
        assert adata.obsm["X_pca"].shape == (240, 50)
