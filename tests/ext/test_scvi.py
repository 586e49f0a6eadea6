"""ScVI and scANVI against scvi-tools used by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scvi.model import SCANVI, SCVI

from scmedal_tools import ext

pytestmark = pytest.mark.slow

TRAINING = {"max_epochs": 2, "batch_size": 64, "enable_progress_bar": False}


@pytest.mark.parametrize("method", ["scvi", "scanvi"])
def test_is_scvi_tools_model(method, cells, splits, embed):
    adata = cells.copy()
    labels_key = "cell_type" if method == "scanvi" else None
    torch.manual_seed(0)
    SCVI.setup_anndata(adata, layer="counts", batch_key="donor", labels_key=labels_key)
    model = SCVI(
        adata, n_hidden=8, n_latent=4, n_layers=1, gene_likelihood="zinb", dispersion="gene"
    )
    settings = {"datasplitter_kwargs": {"external_indexing": splits}} | TRAINING
    model.train(early_stopping=True, **settings)
    if method == "scanvi":
        model = SCANVI.from_scvi_model(model, unlabeled_category="unlabeled")
        model.train(early_stopping=True, **settings)
    expected = model.get_latent_representation()
    np.testing.assert_allclose(embed(method, cells.copy(), splits=splits), expected, atol=1e-6)


def test_settings_of_the_paper(adata, monkeypatch):
    seen = {}
    init, train = SCVI.__init__, SCVI.train

    def record_init(self, adata=None, *args, **kwargs):
        seen.update(kwargs)
        init(self, adata, *args, **kwargs)

    def record_train(self, **kwargs):
        seen.update(kwargs)
        train(self, **kwargs | {"max_epochs": 1})

    monkeypatch.setattr(SCVI, "__init__", record_init)
    monkeypatch.setattr(SCVI, "train", record_train)
    ext.scvi(adata, batch_key="donor", progress=False)
    expected = {
        "n_latent": 50,
        "n_layers": 2,
        "n_hidden": 132,
        "gene_likelihood": "zinb",
        "dispersion": "gene",
        "batch_size": 512,
        "max_epochs": 500,
        "early_stopping": True,
        "early_stopping_patience": 30,
    }
    assert seen.items() >= expected.items()
    settings = json.loads(adata.uns["scmedal"]["X_scvi"]["settings"])
    assert settings["n_hidden"] == 132


@pytest.mark.parametrize("method", ["scvi", "scanvi"])
def test_stops_when_validation_cells_no_longer_gain(method, adata, embed, capsys):
    embed(method, adata, max_epochs=300, patience=1)
    assert "Signaling" not in capsys.readouterr().out  # as if it had failed
    assert 1 < adata.uns["scmedal"][f"X_{method}"]["epochs"] < 300


@pytest.mark.parametrize("method", ["scvi", "scanvi"])
def test_last_minibatch_of_one_cell(method, cells, embed):
    cells_of = np.arange(240)
    splits = [cells_of[:129], cells_of[129:150], cells_of[150:]]
    assert np.isfinite(embed(method, cells.copy(), splits=splits)).all()


@pytest.mark.parametrize("method", ["scvi", "scanvi"])
def test_only_counts_will_do(method, adata, embed):
    adata.layers["norm"] = adata.X
    with pytest.raises(ValueError, match=r"layers\['norm'\] looks log-normalised"):
        embed(method, adata, layer="norm")
    del adata.layers["counts"]
    with pytest.raises(ValueError, match=r"layer='counts' is not in adata\.layers"):
        embed(method, adata)


def test_data_are_not_kept(adata, embed):
    stores = SCVI._setup_adata_manager_store, SCANVI._setup_adata_manager_store
    before = [set(store) for store in stores]
    embed("scanvi", adata)
    assert [set(store) for store in stores] == before
