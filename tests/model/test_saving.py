"""Saved models compute what they computed before."""

import copy
import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scmedal_tools as smt


@pytest.fixture
def folder(trained, tmp_path):
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def assert_same_model(loaded, model):
    ours, expected = loaded.module.state_dict(), model.module.state_dict()
    assert ours.keys() == expected.keys()
    assert {"scaler.shift", "scaler.scale", "batch_entropy", "is_fitted"} < ours.keys()
    assert any(name.startswith("adversary.") for name in ours)
    axes = {name for name in ours if name.startswith("expression_")}
    random_effects = isinstance(model, smt.model.SCMEDAL_RE)
    assert ("is_finished" in ours) == random_effects
    assert axes == ({"expression_axes", "expression_centre"} if random_effects else set())
    for name, value in ours.items():
        assert torch.equal(value, expected[name]), name
    assert (loaded.preset_, loaded.best_epoch_) == (model.preset_, model.best_epoch_)
    assert model.best_epoch_ is not None
    assert loaded.history.keys() == model.history.keys()
    for name, values in model.history.items():
        pd.testing.assert_frame_equal(loaded.history[name], values)
    assert list(loaded.batch_names) == list(model.batch_names)


def test_with_the_cells(trained, folder):
    loaded = type(trained).load(folder, trained.adata, accelerator="cpu")
    assert_same_model(loaded, trained)
    latent, expected = (model.get_latent_representation() for model in (loaded, trained))
    np.testing.assert_array_equal(latent, expected)
    table, expected = (model.get_reconstruction() for model in (loaded, trained))
    pd.testing.assert_frame_equal(table, expected)


def test_without_cells(trained, folder, fresh):
    loaded = type(trained).load(folder, adata=False, accelerator="cpu")
    assert_same_model(loaded, trained)
    with pytest.raises(ValueError, match="loaded without data: pass `adata`"):
        loaded.get_latent_representation()
    expected = trained.get_latent_representation(indices=np.arange(0, 240, 3))
    np.testing.assert_allclose(loaded.get_latent_representation(fresh), expected, atol=1e-6)
    expected = trained.get_reconstruction(indices=np.arange(0, 240, 3))
    pd.testing.assert_frame_equal(loaded.get_reconstruction(fresh), expected, rtol=1e-4)


def test_verbs_of_their_own_without_cells(trained_models, fresh, tmp_path):
    for name, verb in [
        ("SCMEDAL_FEC", lambda m, a: m.predict(a, soft=True)),
        (
            "SCMEDAL_RE",
            lambda m, a: m.get_counterfactual_expression(a, transform_batch="donor_01"),
        ),
    ]:
        model = trained_models[name]
        model.save(tmp_path / name)
        loaded = type(model).load(tmp_path / name, adata=False, accelerator="cpu")
        cells = fresh.copy()
        pd.testing.assert_frame_equal(verb(loaded, cells), verb(model, fresh), rtol=1e-4)


def test_settings_are_kept(fit, adata, tmp_path):
    changes = {"adversary_weight": 0.0, "preset": "paper", "scaling": "centred"}
    model = fit("SCMEDAL_FE", adata, model=changes)
    model.save(tmp_path / "model")
    loaded = smt.model.SCMEDAL_FE.load(tmp_path / "model", adata, accelerator="cpu")
    assert loaded.module.adversary is None
    assert loaded.preset_ == "paper"
    assert loaded.module.scaler.scaling == "centred"
    assert loaded.module.adversarial_objective == "unbounded"
    assert str(loaded) == str(model)


def test_from_a_registry_alone(trained, fresh):
    sizes = {"n_hidden": (16, 8), "n_latent": 4, "adversary_hidden": (16,)}
    model = type(trained)(registry=trained.registry, **sizes)
    model.module.load_state_dict(trained.module.state_dict())
    model.module.eval()
    model.is_trained_ = True
    expected = trained.get_latent_representation(indices=np.arange(0, 240, 3))
    np.testing.assert_allclose(model.get_latent_representation(fresh), expected, atol=1e-6)


@pytest.mark.slow
def test_training_goes_on_after_loading(fit, adata, tmp_path):
    model = fit("SCMEDAL_RE", adata)
    model.save(tmp_path / "model")
    loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", adata, accelerator="cpu")
    loaded.train(max_epochs=1, batch_size=64, accelerator="cpu", enable_progress_bar=False)
    assert len(loaded.history["train_loss"]) == 3
    assert torch.equal(loaded.module.scaler.shift, model.module.scaler.shift)


def negate(adata):
    adata.X = -adata.X


def take_the_counts(adata):
    adata.X = adata.layers["counts"]


def reverse_the_genes(adata):
    adata.var_names = adata.var_names[::-1]


def name_another_donor(adata):
    adata.obs["donor"] = "somebody"


SPOILT = {
    "negative values": negate,
    "raw counts": take_the_counts,
    "in another order": reverse_the_genes,
    "not trained on 1 of the levels": name_another_donor,
}


@pytest.mark.parametrize("message", SPOILT)
def test_cells_given_at_loading_are_checked(trained, folder, fresh, message):
    SPOILT[message](fresh)
    with pytest.raises(ValueError, match=message):
        type(trained).load(folder, fresh, accelerator="cpu")


def test_the_line_of_the_message_puts_cells_on_disk_in_order(trained, fresh, tmp_path):
    fresh[:, ::-1].copy().write_h5ad(tmp_path / "cells.h5ad")
    names = {"adata": ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"), "model": trained}
    with pytest.raises(ValueError, match="in another order") as error:
        trained.get_latent_representation(names["adata"])
    exec(str(error.value).splitlines()[-1].strip(), names)
    found, expected = map(trained.get_latent_representation, (names["adata"], fresh))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [pickled, copy.deepcopy])
def test_copies_compute_the_same_and_stand_alone(trained, copied):
    twin, expected = copied(trained), trained.get_latent_representation()
    assert_same_model(twin, trained)
    np.testing.assert_array_equal(twin.get_latent_representation(), expected)
    with torch.no_grad():
        for weights in twin.module.parameters():
            weights.zero_()
    np.testing.assert_array_equal(trained.get_latent_representation(), expected)


@pytest.mark.slow
def test_training_is_the_same_with_cells_from_another_process(fit, adata):
    latents = []
    for n_workers in (0, 1):
        kwargs = {"datasplitter_kwargs": {"num_workers": n_workers}}
        latents.append(fit("SCMEDAL_RE", adata.copy(), **kwargs).get_latent_representation())
    np.testing.assert_array_equal(*latents)
