"""Scanorama against scanpy used by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import scanpy as sc
import scanpy.external


class TestScanorama:
    def test_is_scanpys_scanorama_on_the_components_of_all_cells(self, cells, embed):
        adata = cells.copy()
        embed("pca", adata, key_added="X_pca")
        contiguous = adata[np.argsort(adata.obs["donor"].astype(str), kind="stable")].copy()
        sc.external.pp.scanorama_integrate(contiguous, "donor", adjusted_basis="expected")
        result = embed("scanorama", adata)
        expected = contiguous[adata.obs_names].obsm["expected"]
        np.testing.assert_allclose(result, expected, atol=1e-3)
        assert np.abs(result - adata.obsm["X_pca"]).max() > 0.1

    def test_order_of_the_cells_is_restored(self, cells, embed):
        order = np.random.default_rng(1).permutation(240)
        first = embed("scanorama", cells.copy(), approx=False)
        second = embed("scanorama", cells[order].copy(), approx=False)
        np.testing.assert_allclose(second, first[order], atol=1e-2)


def test_missing_package(adata, embed, monkeypatch):
    monkeypatch.setitem(sys.modules, "scanorama", None)
    message = r'scanorama is not installed(.|\n)*pip install "\.\[benchmark\]"'
    with pytest.raises(ImportError, match=message):
        embed("scanorama", adata)
