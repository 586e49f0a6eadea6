"""Reader of the heart on a miniature."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmedal_tools.datasets import healthy_heart

from ..published import heart_cells


@pytest.fixture
def heart():
    return heart_cells()


def read(adata, folder, **kwargs):
    adata.write_h5ad(folder / "heart.h5ad")
    return healthy_heart(folder / "heart.h5ad", **kwargs)


def test_columns_and_counts(heart, tmp_path):
    adata = read(heart, tmp_path)
    np.testing.assert_array_equal(adata.X.toarray(), heart.X.toarray())
    for role, column in {"batch": "sample", "tissue": "region", "protocol": "version"}.items():
        assert adata.obs[role].astype(str).tolist() == heart.obs[column].tolist()
        assert isinstance(adata.obs[role].dtype, pd.CategoricalDtype)
    assert adata.n_obs == heart.n_obs  # also cells that are not assigned
    assert "cell_states" in adata.obs
    assert "donor_in_file" not in adata.obs


@pytest.mark.parametrize("kind", [np.asarray, sparse.csc_matrix])
def test_x_becomes_csr(heart, tmp_path, kind):
    dense = heart.X.toarray()
    heart.X = kind(dense)
    adata = read(heart, tmp_path)
    assert adata.X.format == "csr"
    np.testing.assert_array_equal(adata.X.toarray(), dense)


def test_other_columns(heart, tmp_path):
    heart.obs = heart.obs.rename(columns={"sample": "library", "region": "site"})
    heart.obs["batch"] = "plate"
    adata = read(heart, tmp_path, columns={"batch": "library", "tissue": "site"})
    assert adata.obs["batch"].tolist() == heart.obs["library"].tolist()
    assert set(adata.obs["batch_in_file"]) == {"plate"}


def test_columns_may_swap_their_names(heart, tmp_path):
    adata = read(heart, tmp_path, columns={"donor": "sample", "batch": "donor"})
    assert adata.obs["donor"].tolist() == heart.obs["sample"].tolist()
    assert adata.obs["batch"].tolist() == heart.obs["donor"].tolist()


def test_missing_file_says_what_to_download(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"global_raw\.h5ad.*figshare"):
        healthy_heart(tmp_path / "heart.h5ad")


def test_missing_column_is_named(heart, tmp_path):
    del heart.obs["region"]
    with pytest.raises(ValueError, match=r"lacks \{'tissue': 'region'\}.*columns=.*cell_states"):
        read(heart, tmp_path)


def test_unknown_role(heart, tmp_path):
    with pytest.raises(ValueError, match=r"columns has .*'region'"):
        read(heart, tmp_path, columns={"region": "region"})


def test_values_that_are_no_counts(heart, tmp_path):
    heart.X = np.log1p(heart.X.toarray())
    with pytest.raises(ValueError, match="raw counts"):
        read(heart, tmp_path)


def test_cells_without_batch(heart, tmp_path):
    heart.obs.loc["c3", "sample"] = np.nan
    with pytest.raises(ValueError, match="1 cells have no 'sample'"):
        read(heart, tmp_path)
