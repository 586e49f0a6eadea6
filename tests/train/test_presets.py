"""Presets: the paper's numbers, and that each one builds its network."""

import pytest

from scmedal_tools.module import FEModule, REModule
from scmedal_tools.train import PRESETS, get_preset

MODULES = {"SCMEDAL_FE": FEModule, "SCMEDAL_FEC": FEModule, "SCMEDAL_RE": REModule}
SIZES = {"n_input": 7, "n_batch": 3, "n_hidden": (5, 4), "n_latent": 2}

# scMEDAL, supplementary Tables S2 (healthy heart), S3 (ASD) and S4 (AML).
TABLES = [
    ("SCMEDAL_FE", "heart", {"reconstruction_weight": 600, "adversary_weight": 1}),
    ("SCMEDAL_FE", "asd", {"reconstruction_weight": 2000, "adversary_weight": 1}),
    ("SCMEDAL_FE", "aml", {"reconstruction_weight": 1000, "adversary_weight": 1}),
    (
        "SCMEDAL_FEC",
        "heart",
        {"reconstruction_weight": 2000, "label_weight": 1, "adversary_weight": 1},
    ),
    (
        "SCMEDAL_FEC",
        "asd",
        {"reconstruction_weight": 2000, "label_weight": 1, "adversary_weight": 1},
    ),
    (
        "SCMEDAL_FEC",
        "aml",
        {"reconstruction_weight": 2000, "label_weight": 3, "adversary_weight": 0.5},
    ),
    (
        "SCMEDAL_RE",
        "heart",
        {"reconstruction_weight": 110, "batch_weight": 0.1, "kl_weight": 1e-5},
    ),
    ("SCMEDAL_RE", "asd", {"reconstruction_weight": 110, "batch_weight": 0.4, "kl_weight": 1e-5}),
    ("SCMEDAL_RE", "aml", {"reconstruction_weight": 110, "batch_weight": 0.1, "kl_weight": 1e-5}),
]


@pytest.mark.parametrize(("model", "data_set", "weights"), TABLES)
def test_weights_of_the_paper(model, data_set, weights):
    preset = get_preset(model, f"paper-{data_set}")
    assert {name: preset.module[name] for name in weights} == weights
    assert (preset.plan["lr"], preset.plan["adversary_lr"], preset.plan["eps"]) == (
        1e-4,
        1e-4,
        1e-7,
    )
    assert (preset.train["max_epochs"], preset.train["batch_size"]) == (500, 512)


@pytest.mark.parametrize("model", ["SCMEDAL_FE", "SCMEDAL_FEC"])
def test_the_papers_decoder_does_not_know_the_batch(model):
    preset = get_preset(model, "paper").module
    assert preset["decoder"] == "tied"
    assert preset["input_dropout"] == preset["adversary_dropout"] == 0
    assert get_preset(model, "default").module["decoder"] == "batch"


@pytest.mark.parametrize("data_set", ["heart", "asd", "aml"])
def test_training_of_the_papers_random_effects(data_set):
    """One Adam at one rate, without dropout; the batch is read from the latent."""
    preset = get_preset("SCMEDAL_RE", f"paper-{data_set}")
    assert preset.plan["effects_optimizer"] == "adam"
    assert preset.plan["effects_lr"] == preset.plan["lr"]
    assert preset.plan.get("lr_decay", 0) == 0
    assert preset.module["input_dropout"] == preset.module["adversary_dropout"] == 0
    module = REModule.from_settings(preset.module, **SIZES)
    assert module.batch_classifier is not None
    assert module.adversary is None


def test_default_of_the_random_effects():
    preset = get_preset("SCMEDAL_RE", "default")
    assert preset.plan["effects_optimizer"] == "natural"
    assert 0 < preset.plan["effects_lr"] <= 1
    assert 0 < preset.plan["lr_decay"] <= 1
    module = REModule.from_settings(preset.module, **SIZES)
    assert module.batch_classifier is None
    assert module.adversary is not None


@pytest.mark.parametrize("model", PRESETS)
def test_paper_means_aml(model):
    assert get_preset(model, "paper") == get_preset(model, "paper-aml")
    assert get_preset(model, "paper") != get_preset(model, "default")


@pytest.mark.parametrize(
    ("model", "name"), [(m, n) for m, names in PRESETS.items() for n in names]
)
def test_every_preset_builds_its_module(model, name):
    module = MODULES[model].from_settings(get_preset(model, name).module, **SIZES)
    assert module.scaler.scaling == ("centred" if name == "default" else "minmax")


def test_unknown_preset_lists_the_known():
    with pytest.raises(
        ValueError, match=r"preset='aml' is not one of 'default', 'paper', 'paper-"
    ):
        get_preset("SCMEDAL_FE", "aml")


def test_replacing_an_argument_leaves_the_preset_alone():
    preset = get_preset("SCMEDAL_FE", "default")
    changed = preset.with_module(adversary_weight=-1.0)
    assert changed.module["adversary_weight"] == -1.0
    assert get_preset("SCMEDAL_FE", "default").module["adversary_weight"] != -1.0
    assert changed.plan == preset.plan
