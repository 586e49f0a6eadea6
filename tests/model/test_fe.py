"""Fixed effects: no batch in the input, an adversary, no random effects."""

import numpy as np
import pytest


def test_the_recorded_batch_is_not_read(fe, fresh):
    latent, table = fe.get_latent_representation(fresh), fe.get_reconstruction(fresh)
    other = fresh.copy()
    other.obs["donor"] = other.obs["donor"].cat.rename_categories(
        dict(zip(fe.batch_names, np.roll(fe.batch_names, 1), strict=True))
    )
    assert (other.obs["donor"].astype(str) != fresh.obs["donor"].astype(str)).all()
    np.testing.assert_array_equal(fe.get_latent_representation(other), latent)
    np.testing.assert_array_equal(fe.get_reconstruction(other), table)


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC"])
@pytest.mark.parametrize("verb", ["get_latent_representation", "get_reconstruction"])
def test_there_are_no_random_effects_to_draw(trained_models, name, verb):
    with pytest.raises(ValueError, match=f"{name} has no random effects to draw"):
        getattr(trained_models[name], verb)(n_samples=3)


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC"])
def test_plain_autoencoder(fit, labelled, name):
    setup = {"labels_key": "partly_labelled"}
    model = fit(name, labelled.copy(), setup, {"adversary_weight": 0})
    assert model.module.adversary is None
    assert "adversary_ce_train" not in model.history
    assert model.get_latent_representation().shape == (240, 4)


def test_the_adversary_is_heeded(fit, adata):
    """With a large weight the latent tells the adversary less than without its gradient."""
    plan = {"lr": 5e-3, "adversary_lr": 5e-3}
    common = {"max_epochs": 15, "early_stopping": False, "plan_kwargs": plan}
    ignored, heeded = (
        fit("SCMEDAL_FE", adata.copy(), model={"adversary_weight": weight}, **common)
        for weight in (1e-6, 200.0)
    )
    ignored, heeded = (m.history["adversary_ce_train"].iloc[-1].item() for m in (ignored, heeded))
    assert heeded > ignored + 0.2


def test_summary(fe):
    assert "SCMEDAL_FE, preset 'default': 60 genes, 4 batches, n_hidden (16, 8)" in str(
        fe._model_summary_string
    )


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"])
class TestArguments:
    def test_unknown_preset(self, build, labelled, name):
        setup = {"labels_key": "partly_labelled"}
        with pytest.raises(ValueError, match="preset='aml' is not one of 'default'"):
            build(name, labelled.copy(), setup, preset="aml")

    def test_unknown_setting(self, build, labelled, name):
        setup = {"labels_key": "partly_labelled"}
        with pytest.raises(TypeError, match=rf"{name} .*\['dropout'\].*adversary_weight"):
            build(name, labelled.copy(), setup, dropout=0.1)
