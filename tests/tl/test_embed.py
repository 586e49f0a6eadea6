"""Embeddings in the AnnData: names, record, and that scanpy and the file format take them."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import scmedal_tools as smt

KEYS = {
    "SCMEDAL_FE": "X_scmedal_fe",
    "SCMEDAL_FEC": "X_scmedal_fec",
    "SCMEDAL_RE": "X_scmedal_re",
}
SETUP = {"labels_key": "cell_type"}


@pytest.fixture(scope="module")
def fe(fit, cells):
    return fit("SCMEDAL_FE", cells.copy())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_name_and_values(fit, adata, name, key):
    model = fit(name, adata, SETUP)
    assert smt.tl.embed(adata, model) == key
    np.testing.assert_array_equal(adata.obsm[key], model.get_latent_representation())


@pytest.mark.slow
def test_record(fit, adata):
    smt.tl.embed(adata, fit("SCMEDAL_FEC", adata, SETUP, {"preset": "paper"}, max_epochs=3))
    smt.tl.embed(adata, fit("SCMEDAL_RE", adata), key_added="X_mine")
    assert adata.uns["scmedal"] == {
        "X_scmedal_fec": {
            "model": "SCMEDAL_FEC",
            "preset": "paper",
            "batch_key": "donor",
            "labels_key": "cell_type",
            "settings": '{"adversary_hidden": [16]}',
            "n_latent": 4,
            "epochs": 3,
            "taken_as": "log-normalised",
            "seed": 0,
            "scmedal_tools": smt.__version__,
        },
        "X_mine": {
            "model": "SCMEDAL_RE",
            "preset": "default",
            "batch_key": "donor",
            "labels_key": "",
            "settings": '{"adversary_hidden": [16]}',
            "n_latent": 4,
            "epochs": 2,
            "taken_as": "log-normalised",
            "seed": 0,
            "scmedal_tools": smt.__version__,
        },
    }


def test_own_name(fe, adata):
    assert smt.tl.embed(adata, fe, key_added="X_mine") == "X_mine"
    assert set(adata.obsm) == {"X_mine"}


def test_umap_of_an_overwritten_embedding_is_dropped(fe, adata):
    plane = np.zeros((240, 2))
    adata.obsm["X_umap_scmedal_fe"] = adata.obsm["X_umap_pca"] = plane
    smt.tl.embed(adata, fe)
    assert set(adata.obsm) == {"X_scmedal_fe", "X_umap_pca"}


def test_file_and_neighbours(fe, adata, tmp_path):
    key = smt.tl.embed(adata, fe)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    read = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(read.obsm[key], adata.obsm[key])
    assert read.uns["scmedal"] == adata.uns["scmedal"]
    sc.pp.neighbors(read, use_rep=key, n_neighbors=5, method="gauss", transformer="sklearn")
    assert read.uns["neighbors"]["params"]["use_rep"] == key
    assert read.obsp["connectivities"].shape == (240, 240)


def test_without_a_history_no_epochs_are_recorded(fit, adata):
    smt.tl.embed(adata, fit("SCMEDAL_FE", adata, logger=False))
    assert "epochs" not in adata.uns["scmedal"]["X_scmedal_fe"]


def test_arguments_in_the_wrong_order_are_named(fe, adata):
    with pytest.raises(
        TypeError, match=r"AnnData is not a scMEDAL model.*tl\.embed\(adata, model"
    ):
        smt.tl.embed(fe, adata)
