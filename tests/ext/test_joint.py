"""Harmony and Scanorama against the packages used by hand."""

from __future__ import annotations

import sys

import harmonypy
import numpy as np
import pytest
import scanpy as sc
import scanpy.external


class TestHarmony:
    def test_is_harmonypy_on_the_components_of_all_cells(self, cells, embed):
        adata = cells.copy()
        components = embed("pca", adata, key_added="pcs").astype(np.float64)
        by_hand = harmonypy.run_harmony(
            components, adata.obs, "donor", random_state=0, verbose=False
        )
        corrected = np.asarray(by_hand.Z_corr).reshape(components.shape)
        result = embed("harmony", adata)
        np.testing.assert_allclose(result, corrected, rtol=1e-3, atol=1e-3)
        assert np.abs(result - components).max() > 0.1

    def test_settings_reach_it(self, cells, embed):
        strong = embed("harmony", cells.copy(), theta=8.0)
        assert np.abs(strong - embed("harmony", cells.copy())).max() > 0.01


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


@pytest.mark.parametrize(("method", "package"), [("harmony", "harmonypy"), ("scanorama",) * 2])
def test_missing_package(method, package, adata, embed, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'{package} is not installed(.|\n)*pip install "\.\[benchmark\]"'
    with pytest.raises(ImportError, match=message):
        embed(method, adata)
