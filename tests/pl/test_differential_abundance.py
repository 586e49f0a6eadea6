"""Figure of neighbourhoods whose abundance differs."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmedal_tools import pl


class TestAbundance:
    @pytest.fixture
    def cells(self):
        obs = pd.DataFrame(index=list("vwxyz"))
        return AnnData(obs=obs, obsm={"X_umap": np.arange(10.0).reshape(5, 2)})

    def test_neighbourhoods_lie_at_their_cells(self, cells):
        found = pd.DataFrame(
            {"log2_ratio": [1.0, -2.0], "adj_p_value": [0.5, 0.05]}, index=["y", "w"]
        )
        ax = pl.differential_abundance(found, cells, "X_umap")
        _, same, differ = ax.collections
        np.testing.assert_array_equal(same.get_offsets(), [[6, 7]])
        np.testing.assert_array_equal(differ.get_offsets(), [[2, 3]])
        np.testing.assert_array_equal(differ.get_array(), [-2])
        assert differ.get_clim() == (-2, 2)
        assert ax.get_title() == "1 of 2 neighbourhoods differ"

    @pytest.mark.parametrize(
        ("basis", "names"),
        [
            ("X_umap", ["UMAP1", "UMAP2"]),
            ("X_umap_re", ["UMAP1", "UMAP2"]),
            ("X_re", ["X_re 1", "X_re 2"]),
        ],
    )
    def test_axes_are_named_after_what_they_are(self, cells, basis, names):
        cells.obsm[basis] = cells.obsm["X_umap"]
        found = pd.DataFrame({"log2_ratio": [1.0], "adj_p_value": [0.5]}, index=["y"])
        ax = pl.differential_abundance(found, cells, basis)
        assert [ax.get_xlabel(), ax.get_ylabel()] == names

    def test_unknown_basis(self, cells):
        with pytest.raises(KeyError, match=r"X_pca.*X_umap"):
            pl.differential_abundance(pd.DataFrame(), cells, "X_pca")
