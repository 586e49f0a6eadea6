"""Settings of networks and of trainings that are refused, before anything long runs."""

import os

import numpy as np
import pytest

from scmedal_tools import model, module, train

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
TINY = {"n_hidden": (8,), "n_latent": 2}
NAN = float("nan")
WEIGHT = "has to be a number of at least 0"
WHOLE = "has to be at least 1, and a whole number"
OF_ALL = [
    (
        {"normalization": "layr"},
        r"normalization='layr' is not one of \('batch', 'layer', 'none'\)",
    ),
    ({"scaling": "min-max"}, "scaling='min-max' is not one of"),
    ({"latent_activation": "relu"}, "latent_activation='relu' is not one of"),
    ({"adversarial_objective": "bound"}, "adversarial_objective='bound' is not one of"),
    ({"likelihood": "gaussian-gene"}, "likelihood='gaussian-gene' is not one of"),
    ({"adversary_weight": NAN}, f"adversary_weight=nan {WEIGHT}"),
    ({"adversary_weight": -1}, f"adversary_weight=-1 {WEIGHT}"),
    ({"adversary_weight": "7"}, f"adversary_weight='7' {WEIGHT}"),
    ({"reconstruction_weight": float("inf")}, f"reconstruction_weight=inf {WEIGHT}"),
    ({"adversary_hidden": 5}, "adversary_hidden=5 has to be the widths of hidden layers"),
    ({"adversary_dropout": 1.0}, "adversary_dropout=1.0 has to be a share"),
    ({"input_dropout": -0.1}, "input_dropout=-0.1 has to be a share"),
    ({"n_latent": 0}, f"n_latent=0 {WHOLE}"),
    ({"n_latent": 2.5}, f"n_latent=2.5 {WHOLE}"),
    ({"n_hidden": (8, 0)}, r"n_hidden=\(8, 0\) has to be the widths of hidden layers"),
    ({"n_hidden": (8.5,)}, r"n_hidden=\(8.5,\) has to be the widths of hidden layers"),
]
OF_RE = [
    ({"decoder_dense_activation": "relu"}, "decoder_dense_activation='relu' is not one of"),
    ({"kl_estimate": "closed"}, "kl_estimate='closed' is not one of"),
    ({"content_code": "no"}, r"content_code='no' is not one of \(True, False\)"),
    ({"n_states": -3}, "n_states=-3 has to be at least 0, and a whole number"),
    ({"n_states": 1.5}, "n_states=1.5 has to be at least 0, and a whole number"),
    ({"effects": {"prior_sd": -0.2}}, "prior_sd=-0.2 has to be a number above 0"),
    ({"effects": {"posterior_sd": 0}}, "posterior_sd=0 has to be a number above 0"),
    ({"effects": {"sd": 0.2}}, "effects takes no 'sd'"),
    ({"effects": 0.2}, "effects=0.2 has to be a dictionary"),
    ({"adversary_wieght": 1}, "takes no 'adversary_wieght'. Did you mean 'adversary_weight'"),
]  # fmt: skip
OF_FE = [
    ({"decoder": "tide"}, "decoder='tide' is not one of"),
    ({"n_labels": 3}, "SCMEDAL_FE takes no 'n_labels'"),
]
SETTINGS = [
    *((name, *case) for name in MODELS for case in OF_ALL),
    *(("SCMEDAL_RE", *case) for case in OF_RE),
    *(("SCMEDAL_FE", *case) for case in OF_FE),
    ("SCMEDAL_FEC", {"label_weight": -1}, f"label_weight=-1 {WEIGHT}"),
]


@pytest.fixture(scope="module")
def registered(labelled):
    adata = labelled.copy()
    for name in MODELS:
        getattr(model, name).setup_anndata(adata, "donor", labels_key="partly_labelled")
    return adata


@pytest.mark.parametrize(("name", "settings", "message"), SETTINGS)
def test_of_a_network(registered, name, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(model, name)(registered, **TINY | settings)


def test_of_a_group_by_itself():
    with pytest.raises(ValueError, match="adversarial_objective='bound' is not one of"):
        module.AdversarySettings("bound", (), 1.0)


def test_every_setting_of_the_presets_is_checked():
    """But those that are not given by users, and the group whose members are."""
    known = {name for presets in train.PRESETS.values() for name in presets["default"].module}
    known |= set(train.PRESETS["SCMEDAL_RE"]["default"].module["effects"])
    assert known - set(module._settings.ALLOWED) == {"effects", "n_new"}


def test_effects_that_are_not_named_are_those_of_the_preset(registered):
    built = model.SCMEDAL_RE(registered, **TINY, effects={"prior_sd": 0.3})
    start = next(iter(built.module.effect_tables.values())).start
    assert start == module.EffectsSettings(0.3, learn_prior=True, posterior_sd=0.05, mean_sd=0.0)


TOO_MANY = os.cpu_count() + 1
LR = "has to be a number of at least 0"
TRAININGS = [
    ({"max_epochs": 0}, f"max_epochs=0 {WHOLE}"),
    ({"max_epochs": 2.5}, f"max_epochs=2.5 {WHOLE}"),
    ({"max_epochs": "5"}, f"max_epochs='5' {WHOLE}"),
    ({"max_epochs": None, "trainer_config": {"max_epochs": 0}}, f"max_epochs=0 {WHOLE}"),
    ({"batch_size": -1}, f"batch_size=-1 {WHOLE}"),
    ({"train_size": 0}, "train_size=0 has to be a share of the cells"),
    ({"train_size": 1.5}, "train_size=1.5 has to be a share of the cells"),
    ({"validation_size": -0.1}, "validation_size=-0.1 has to be a share"),
    ({"plan_kwargs": {"lrr": 1}}, "plan_kwargs takes no 'lrr'. Did you mean 'lr'"),
    ({"plan_config": {"lrr": 1}}, "plan_kwargs takes no 'lrr'"),
    ({"plan_kwargs": {"lr": -1}}, f"lr=-1 {LR}"),
    ({"plan_kwargs": {"lr": NAN}}, f"lr=nan {LR}"),
    ({"plan_kwargs": {"lr": "x"}}, f"lr='x' {LR}"),
    ({"plan_kwargs": {"adversary_lr": -1}}, f"adversary_lr=-1 {LR}"),
    ({"plan_kwargs": {"effects_lr": NAN}}, f"effects_lr=nan {LR}"),
    ({"plan_kwargs": {"adversary_steps": -1}}, "adversary_steps=-1 has to be at least 0"),
    ({"plan_kwargs": {"lr_decay": 5}}, "lr_decay=5 has to be a share of the steps"),
    ({"datasplitter_kwargs": {"extrenal_indexing": []}}, "Did you mean 'external_indexing'"),
    ({"devices": TOO_MANY}, f"devices={TOO_MANY} would start as many processes .* devices=1"),
    ({"devices": str(TOO_MANY)}, f"devices='{TOO_MANY}' would start as many processes"),
    ({"early_stopping_monitor": "elbo_val"}, "='elbo_val' is not logged.*elbo_validation"),
]  # fmt: skip


@pytest.fixture(scope="module")
def untrained(registered):
    return model.SCMEDAL_RE(registered, **TINY)


@pytest.mark.filterwarnings("ignore:4 batches are too few")
@pytest.mark.parametrize(("settings", "message"), TRAININGS)
def test_of_a_training(untrained, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        untrained.train(
            **{"max_epochs": 5, "accelerator": "cpu", "enable_progress_bar": False} | settings
        )
    assert len((untrained.history or {}).get("train_loss", ())) == 0


@pytest.mark.filterwarnings("ignore:4 batches are too few")
def test_effects_lr_is_of_models_with_effects(registered):
    with pytest.raises(TypeError, match="plan_kwargs takes no 'effects_lr'"):
        model.SCMEDAL_FE(registered, **TINY).train(1, plan_kwargs={"effects_lr": 0.1})


@pytest.mark.slow
def test_early_stopping_by_what_a_callback_logs(registered):
    from lightning.pytorch.callbacks import Callback

    class Logs(Callback):
        def on_validation_epoch_end(self, trainer, plan):
            plan.log("own", float(-trainer.current_epoch))

    network = model.SCMEDAL_FE(registered, **TINY)
    options = {"accelerator": "cpu", "enable_progress_bar": False, "callbacks": [Logs()]}
    options |= {"early_stopping_monitor": "own", "early_stopping_warmup_epochs": 0}
    network.train(2, **options)
    assert network.best_epoch_ == 1


@pytest.mark.parametrize("numbers", [np.int64(3), np.array([8, 4])])
def test_numbers_of_numpy(registered, numbers):
    name = "n_latent" if numbers.ndim == 0 else "n_hidden"
    model.SCMEDAL_FE(registered, **TINY | {name: numbers})
