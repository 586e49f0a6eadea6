"""Names and levels are read from a file as anndata reads them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scmedal_tools._cli._header import Header, levels_of

from .arguments import LEVELS_STORED


def test_names_are_those_that_anndata_reads(file_with_names):
    adata, header = ad.read_h5ad(file_with_names), Header.of(file_with_names)
    assert list(header.obs) == list(adata.obs)
    assert header.n_cells == adata.n_obs
    assert set(header.obsm) == set(adata.obsm)
    assert set(header.layers) == {"raw", "counts"}


@pytest.mark.parametrize("names", [np.array, pd.Categorical])
def test_number_of_cells_however_their_names_are_stored(adata, tmp_path, names):
    adata.obs_names = pd.Index(names(adata.obs_names.to_numpy()))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    assert Header.of(tmp_path / "cells.h5ad").n_cells == 240


def test_a_file_of_another_kind_has_no_header(tmp_path):
    (tmp_path / "cells.h5ad").write_text("cell,gene")
    assert Header.of(tmp_path / "cells.h5ad") is None


@pytest.mark.parametrize("column", LEVELS_STORED)
def test_levels_are_those_that_anndata_reads(file_with_levels, column):
    levels = ad.read_h5ad(file_with_levels).obs[column].astype(str).unique()
    assert sorted(map(str, levels_of(file_with_levels, column))) == sorted(levels)
