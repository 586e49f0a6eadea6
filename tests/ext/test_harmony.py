"""Harmony against its package used by hand."""

from __future__ import annotations

import sys

import harmonypy
import numpy as np
import pytest


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


def test_missing_package(adata, embed, monkeypatch):
    monkeypatch.setitem(sys.modules, "harmonypy", None)
    message = r'harmonypy is not installed(.|\n)*pip install "\.\[benchmark\]"'
    with pytest.raises(ImportError, match=message):
        embed("harmony", adata)
