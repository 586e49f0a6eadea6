"""UMAP of one embedding: what is written, what is left alone, and when it is computed."""

import numpy as np
import pytest
from anndata import AnnData, read_h5ad

from scmedal_tools.tl._umap import umap

pytestmark = pytest.mark.usefixtures("umaps")


def _adata(n_cells=60, key="X_scmedal_fe"):
    """Return two well separated clusters in five dimensions."""
    latent = np.random.default_rng(0).normal(size=(n_cells, 5))
    latent[: n_cells // 2, 0] += 30
    return AnnData(obsm={key: latent})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "key_out"),
    [("X_scmedal_fe", "X_umap_scmedal_fe"), ("X_pca", "X_umap_pca"), ("latent", "X_umap_latent")],
)
def test_result_is_written_under_the_name_of_the_embedding(key, key_out):
    adata = _adata(key=key)
    umap(adata, key)
    assert set(adata.obsm) == {key, key_out}
    assert adata.obsm[key_out].shape == (adata.n_obs, 2)
    assert np.isfinite(adata.obsm[key_out]).all()


def test_separate_clusters_stay_separate():
    adata = _adata()
    umap(adata, "X_scmedal_fe")
    plane = adata.obsm["X_umap_scmedal_fe"]
    centres = plane[:30].mean(axis=0), plane[30:].mean(axis=0)
    radius = max(plane[:30].std(axis=0).max(), plane[30:].std(axis=0).max())
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * radius


def test_nothing_of_the_caller_is_touched():
    adata = _adata()
    own = np.ones((adata.n_obs, 2))
    adata.obsm["X_umap"] = own.copy()
    adata.obsp["connectivities"] = np.eye(adata.n_obs)
    adata.uns["neighbors"] = {"mine": 1}
    adata.uns["umap"] = {"mine": 2}
    latent = adata.obsm["X_scmedal_fe"].copy()
    umap(adata, "X_scmedal_fe")
    assert set(adata.obsm) == {"X_scmedal_fe", "X_umap", "X_umap_scmedal_fe"}
    record = adata.uns.pop("scmedal_umap")["X_umap_scmedal_fe"]
    assert record.items() >= {"embedding": "X_scmedal_fe", "n_obs": 60}.items()
    assert len(record["digest"]) == 16
    assert dict(adata.uns) == {"neighbors": {"mine": 1}, "umap": {"mine": 2}}
    assert set(adata.obsp) == {"connectivities"}
    assert adata.obs.columns.empty
    np.testing.assert_array_equal(adata.obsm["X_umap"], own)
    np.testing.assert_array_equal(adata.obsm["X_scmedal_fe"], latent)
    np.testing.assert_array_equal(adata.obsp["connectivities"], np.eye(adata.n_obs))


def test_result_is_reused_unless_recomputed():
    adata = _adata()
    marker = np.zeros((adata.n_obs, 2))
    adata.obsm["X_umap_scmedal_fe"] = marker
    umap(adata, "X_scmedal_fe")
    np.testing.assert_array_equal(adata.obsm["X_umap_scmedal_fe"], marker)
    umap(adata, "X_scmedal_fe", recompute=True)
    assert np.ptp(adata.obsm["X_umap_scmedal_fe"]) > 0


def test_result_of_other_values_is_computed_again(tmp_path):
    adata = _adata()
    umap(adata, "X_scmedal_fe")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    adata = read_h5ad(tmp_path / "cells.h5ad")
    marker = adata.obsm["X_umap_scmedal_fe"] = np.zeros((adata.n_obs, 2))
    umap(adata, "X_scmedal_fe")
    np.testing.assert_array_equal(adata.obsm["X_umap_scmedal_fe"], marker)
    some = adata[:20].copy()
    umap(some, "X_scmedal_fe")
    np.testing.assert_array_equal(some.obsm["X_umap_scmedal_fe"], marker[:20])
    adata.obsm["X_scmedal_fe"] = adata.obsm["X_scmedal_fe"][::-1].copy()
    umap(adata, "X_scmedal_fe")
    assert np.ptp(adata.obsm["X_umap_scmedal_fe"]) > 0


def test_seed_decides_the_result():
    planes = []
    for seed in (0, 0, 1):
        adata = _adata()
        umap(adata, "X_scmedal_fe", random_state=seed)
        planes.append(adata.obsm["X_umap_scmedal_fe"])
    np.testing.assert_array_equal(planes[0], planes[1])
    assert not np.allclose(planes[0], planes[2])


@pytest.mark.parametrize("n_cells", [3, 4, 5, 8, 16])
def test_fewer_cells_than_neighbours(n_cells):
    adata = _adata(n_cells)
    umap(adata, "X_scmedal_fe", n_neighbors=15)
    assert np.isfinite(adata.obsm["X_umap_scmedal_fe"]).all()


@pytest.mark.parametrize("n_cells", [1, 2])
def test_too_few_cells_are_refused(n_cells):
    with pytest.raises(ValueError, match="at least 3 cells"):
        umap(_adata(n_cells), "X_scmedal_fe")


def test_unknown_embedding_is_refused_with_what_there_is():
    with pytest.raises(KeyError, match=r"X_absent.*X_scmedal_fe"):
        umap(_adata(), "X_absent")


def test_missing_values_are_refused():
    adata = _adata()
    adata.obsm["X_scmedal_fe"][3, 1] = np.nan
    with pytest.raises(ValueError, match=r"X_scmedal_fe.*missing or infinite"):
        umap(adata, "X_scmedal_fe")
    assert "X_umap_scmedal_fe" not in adata.obsm


def test_two_embeddings_never_share_one_umap():
    adata = _adata(key="X_pca")
    adata.obsm["pca"] = adata.obsm["X_pca"][::-1].copy()
    umap(adata, "X_pca")
    umap(adata, "X_pca")
    before = adata.obsm["X_umap_pca"].copy()
    for recompute in (False, True):
        with pytest.raises(ValueError, match=r"is the UMAP of 'X_pca'.*rename 'pca'"):
            umap(adata, "pca", recompute=recompute)
    np.testing.assert_array_equal(adata.obsm["X_umap_pca"], before)
