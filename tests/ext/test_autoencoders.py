"""AE, AEC and AEC-batch against the models used by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import scmedal_tools as smt

SIZES = {"n_hidden": (16, 8), "n_latent": 4}
PLAIN = {"adversary_weight": 0.0, "decoder": "tied", "input_dropout": 0.0}
CLASSES = {"ae": "SCMEDAL_FE", "aec": "SCMEDAL_FEC", "aec_batch": "SCMEDAL_FEC"}


def by_hand(method, adata, splits, **settings):
    model_class = getattr(smt.model, CLASSES[method])
    labels_key = {"ae": None, "aec": "cell_type", "aec_batch": "donor"}[method]
    model_class.setup_anndata(adata, batch_key="donor", labels_key=labels_key)
    torch.manual_seed(0)
    model = model_class(adata, **PLAIN, **SIZES, **settings)
    model.train(
        max_epochs=2,
        enable_progress_bar=False,
        datasplitter_kwargs={"external_indexing": list(splits)},
    )
    assert model.module.adversary is None
    return model.get_latent_representation()


@pytest.mark.filterwarnings("ignore:.*batches have no training cells")
@pytest.mark.parametrize("method", CLASSES)
def test_is_the_network_without_its_adversary(method, cells, splits, embed):
    expected = by_hand(method, cells.copy(), splits)
    np.testing.assert_array_equal(embed(method, cells.copy(), splits=splits), expected)


@pytest.mark.filterwarnings("ignore:.*batches have no training cells")
@pytest.mark.parametrize(
    ("method", "preset", "weights"),
    [
        ("ae", "paper", {"reconstruction_weight": 1.0}),
        ("ae", "paper-heart", {"reconstruction_weight": 1.0}),
        ("aec", "paper", {"reconstruction_weight": 100.0, "label_weight": 0.6}),
        ("aec", "paper-aml", {"reconstruction_weight": 100.0, "label_weight": 0.6}),
        ("aec", "paper-asd", {"reconstruction_weight": 100.0, "label_weight": 0.1}),
        ("aec_batch", "paper-heart", {"reconstruction_weight": 100.0, "label_weight": 0.1}),
    ],
)
def test_weights_of_the_paper(method, preset, weights, cells, splits, embed):
    adata = cells.copy()
    latent = embed(method, adata, splits=splits, preset=preset)
    expected = by_hand(method, cells.copy(), splits, preset=preset, **weights)
    np.testing.assert_array_equal(latent, expected)
    settings = json.loads(adata.uns["scmedal"][f"X_{method}"]["settings"])
    assert settings.items() >= {"preset": preset, **weights}.items()


def test_weights_can_be_replaced(cells, splits, embed):
    adata = cells.copy()
    embed("aec", adata, splits=splits, preset="paper", label_weight=7.0)
    assert json.loads(adata.uns["scmedal"]["X_aec"]["settings"])["label_weight"] == 7.0


def test_without_validation_cells_a_tenth_is_held_back(cells, splits, embed, monkeypatch):
    used = []
    train = smt.model.SCMEDAL_FE.train
    monkeypatch.setattr(
        smt.model.SCMEDAL_FE,
        "train",
        lambda self, **kwargs: (
            used.append(kwargs["datasplitter_kwargs"]["external_indexing"]),
            train(self, **kwargs),
        ),
    )
    embed("ae", cells.copy())
    embed("ae", cells.copy(), splits=[np.union1d(*splits[:2]), [], splits[2]])
    embed("ae", cells.copy(), splits=splits)
    assert [[len(part) for part in parts] for parts in used[:1]] == [[216, 24, 0]]
    n_known = len(splits[0]) + len(splits[1])
    assert len(used[1][1]) == round(n_known / 10)
    assert set(used[1][0]) | set(used[1][1]) == {*splits[0], *splits[1]}
    np.testing.assert_array_equal(used[2][1], splits[1])
    for parts in used:
        assert sorted(np.concatenate(parts)) == list(range(240))


def test_unknown_cell_types_are_not_learned_from(cells, splits, embed):
    """An unlabelled cell counts as the labelled ones do, but not for the classifier."""
    adata = cells.copy()
    types = adata.obs["cell_type"].astype(str).to_numpy()
    types[splits[0][::3]] = "unlabeled"
    adata.obs["cell_type"] = types
    latent = embed("aec", adata, splits=splits)
    assert np.abs(latent - embed("aec", cells.copy(), splits=splits)).max() > 1e-4
