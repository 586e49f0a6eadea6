"""Random-effects module: what dropout reaches, and the parts that settings switch off."""

import pytest
import torch
from scvi import REGISTRY_KEYS

from scmedal_tools.module import (
    AdversarySettings,
    Architecture,
    EffectsSettings,
    ObjectiveSettings,
    ReconstructionSettings,
    REModule,
)
from scmedal_tools.train import get_preset

N_GENES, N_BATCH = 50, 4
SIZES = {"n_input": N_GENES, "n_batch": N_BATCH, "n_hidden": (8, 6), "n_latent": 3}


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {
        REGISTRY_KEYS.X_KEY: 3 * torch.rand(40, N_GENES),
        REGISTRY_KEYS.BATCH_KEY: torch.randint(N_BATCH, (40, 1)),
    }


def make_module(preset="default", sizes=None, **changes):
    torch.manual_seed(1)
    settings = get_preset("SCMEDAL_RE", preset).module | changes
    module = REModule.from_settings(settings, **SIZES | (sizes or {}))
    module.scaler.shift.fill_(1.5)
    module.scaler.scale.fill_(0.8)
    return module


def infer(module, tensors):
    """Content of the cells, with the effects at their means whatever the mode."""
    return module.inference(**module._get_inference_input(tensors), sample=False)


class TestInputDropout:
    def test_acts_in_training_only(self, tensors):
        module = make_module().eval()
        whole = infer(module, tensors)
        assert torch.equal(infer(module, tensors)["content"], whole["content"])
        module.train()
        first, second = (infer(module, tensors)["content"] for _ in range(2))
        assert not torch.allclose(first, whole["content"], atol=1e-2)
        assert not torch.allclose(first, second, atol=1e-2)

    def test_none_without_a_share(self, tensors):
        module = make_module(input_dropout=0.0).eval()
        whole = infer(module, tensors)["content"]
        assert torch.equal(infer(module.train(), tensors)["content"], whole)

    @pytest.mark.parametrize("share", [0.1, 0.4])
    def test_leaves_out_a_share_of_each_cells_genes(self, tensors, share):
        module, seen = make_module(input_dropout=share).train(), []
        module.encoder[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        x_scaled = infer(module, tensors)["x_scaled"]
        (x,) = seen
        left_out = x == 0
        assert left_out.float().mean().item() == pytest.approx(share, abs=0.03)
        assert left_out.float().mean(1).std() > 0
        expected = (x_scaled / (1 - share))[~left_out]
        torch.testing.assert_close(x[~left_out], expected, rtol=1e-4, atol=1e-6)

    def test_the_cell_is_reconstructed_whole(self, tensors):
        module = make_module().train()
        inference = infer(module, tensors)
        expected = (tensors[REGISTRY_KEYS.X_KEY] - 1.5) / 0.8
        torch.testing.assert_close(inference["x_scaled"], expected)
        generative = module.generative(**module._get_generative_input(tensors, inference))
        output = module.loss(tensors, inference, generative, n_obs=40)
        squared = (expected - generative["x_hat"]).square()
        # The learned noise starts from 1.
        torch.testing.assert_close(output.reconstruction_loss_sum, 0.5 * squared.sum())
        torch.testing.assert_close(output.extra_metrics["mse"], 0.64 * squared.mean())

    def test_share_of_the_presets(self):
        assert make_module().dropout.share == pytest.approx(0.45, abs=1e-5)
        assert make_module("paper").dropout.share == 0


class TestBatchClassifier:
    def test_none_without_a_weight(self, tensors):
        module = make_module()
        assert module.batch_classifier is None
        assert "batch_ce" not in module(tensors)[2].extra_metrics

    @pytest.mark.parametrize(
        ("preset", "changes"), [("default", {"batch_weight": 2.0}), ("paper", {})]
    )
    def test_reads_the_latent(self, tensors, preset, changes):
        module = make_module(preset, **changes).eval()
        inference, _, output = module(tensors)
        logits = module.batch_classifier(inference["z"])
        batch = tensors[REGISTRY_KEYS.BATCH_KEY][:, 0]
        nats = (logits.logsumexp(1) - logits[torch.arange(40), batch]).mean()
        torch.testing.assert_close(output.extra_metrics["batch_ce"], nats)


def test_dropout_of_the_adversary():
    kinds = {
        preset: [type(layer).__name__ for layer in make_module(preset, **changes).adversary]
        for preset, changes in [
            ("default", {"adversary_hidden": (7,)}),
            ("paper", {"adversary_hidden": (7,), "adversary_weight": 1.0, "content_code": True}),
        ]
    }
    assert kinds["default"] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert kinds["paper"] == ["Linear", "ReLU", "Linear"]
    assert make_module().adversary[2].share == 0.5


def test_axes_are_saved_and_start_empty():
    state = make_module().state_dict()
    for name in ("expression_axes", "expression_centre"):
        assert not state[name].any()
    assert not any("axes" in name for name, _ in make_module().named_parameters())


class TestLoss:
    def test_divergence_is_shared_by_the_training_cells(self, tensors):
        module = make_module().eval()
        inference = infer(module, tensors)
        generative = module.generative(**module._get_generative_input(tensors, inference))
        losses = {n: module.loss(tensors, inference, generative, n_obs=n).loss for n in (10, 40)}
        expected = module.kl_weight * module.kl() * (1 / 10 - 1 / 40)
        torch.testing.assert_close(losses[10] - losses[40], expected, rtol=1e-3, atol=1e-4)

    def test_the_adversary_reads_the_content(self, tensors):
        module = make_module().eval()
        for table in module.bottleneck.slope, module.bottleneck.bias:
            table.loc.data.normal_()
        inference = infer(module, tensors)
        assert not torch.allclose(inference["content"], inference["z"])
        assert torch.equal(module.adversary_features(inference), inference["content"])


def test_unseen_levels_of_each_factor_are_drawn_from_its_own_prior():
    module = make_module(sizes={"n_crossed": (3,)})
    for name, table in module.effect_tables.items():
        table.log_prior_sd.data.fill_(-9.0 if "crossed" in name else -2.0)
    drawn = module.draw_effects(torch.Generator().manual_seed(0), n_unseen=[30, 50])
    for name, table in module.effect_tables.items():
        n_unseen, sd = (50, 2.718**-9) if "crossed" in name else (30, 2.718**-2)
        unseen = drawn[name][len(table.loc) :]
        assert len(unseen) == n_unseen
        assert unseen.std().item() == pytest.approx(sd, rel=0.2)


def test_nothing_learns_in_a_query_but_the_factors_with_new_levels():
    module = make_module(sizes={"n_crossed": (3,)}, n_new=(1, 0))
    learned = {name for name, p in module.named_parameters() if p.requires_grad}
    tables = [name for name in module.effect_tables if "crossed" not in name]
    assert learned == {f"{table}.{kind}" for table in tables for kind in ("loc", "rho")}


class TestWhereEffectsAre:
    def test_next_to_the_latent_and_at_the_genes(self):
        module = make_module(sizes={"n_hidden": (9, 8, 7)})
        layers = {name.rsplit(".", 1)[0] for name in module.effect_tables}
        assert layers == {"encoder.2", "bottleneck", "decoder.0", "output"}

    def test_everywhere_if_deep(self):
        layers = {name.rsplit(".", 1)[0] for name in make_module(deep_effects=True).effect_tables}
        hidden = {f"{side}.{i}" for side in ("encoder", "decoder") for i in (0, 1)}
        assert layers == hidden | {"bottleneck", "output"}

    def test_only_blocks_with_effects_are_centred(self):
        module = make_module()
        for table in module.effect_tables.values():
            torch.nn.init.normal_(table.loc, 0.02, 0.01)
        module.centre_effects()
        for table in module.effect_tables.values():
            torch.testing.assert_close(table.loc.mean(0), torch.zeros(table.loc.shape[1]))

    def test_there_is_a_hidden_layer(self):
        with pytest.raises(ValueError, match="n_hidden is empty"):
            make_module(sizes={"n_hidden": ()})


class TestSettings:
    def test_by_name_are_those_in_groups(self):
        by_name = make_module(batch_weight=2.0, adversary_hidden=(7,), n_states=3)
        torch.manual_seed(1)
        grouped = REModule(
            **SIZES,
            reconstruction=ReconstructionSettings("centred", "gaussian", 1.0),
            adversary=AdversarySettings("bounded", (7,), 7.0, 0.5),
            architecture=Architecture(True, False, "layer", False, "linear", "linear", 0.45, 3),
            effects=EffectsSettings(0.1, True, 0.05, 0.0),
            objective=ObjectiveSettings("closed form", 1.0, (64,), 2.0),
        )
        state = grouped.state_dict()
        for name, values in by_name.state_dict().items():
            assert name.startswith("scaler") or torch.equal(values, state.pop(name)), name
        assert not [name for name in state if not name.startswith("scaler")]
        for name in ("kl_weight", "kl_estimate", "batch_weight", "adversary_weight"):
            assert getattr(grouped, name) == getattr(by_name, name)

    def test_a_name_that_there_is_not_is_refused(self):
        with pytest.raises(TypeError, match="adversary_wieght"):
            make_module(adversary_wieght=1.0)

    def test_a_missing_one_is_named(self):
        settings = dict(get_preset("SCMEDAL_RE", "default").module)
        del settings["n_states"]
        with pytest.raises(TypeError, match="n_states"):
            REModule.from_settings(settings, **SIZES)


class TestLevels:
    def test_of_one_factor_may_have_one_axis(self, tensors):
        module, x = make_module().eval(), tensors[REGISTRY_KEYS.X_KEY]
        levels = tensors[REGISTRY_KEYS.BATCH_KEY]
        both = (module.inference(x, of_cells)["z"] for of_cells in (levels, levels[:, 0]))
        assert torch.equal(*both)

    @pytest.mark.parametrize("deep_effects", [True, False])
    def test_a_missing_factor_is_an_error(self, tensors, deep_effects):
        module = make_module(sizes={"n_crossed": (3,)}, deep_effects=deep_effects).eval()
        x, batch = tensors[REGISTRY_KEYS.X_KEY], tensors[REGISTRY_KEYS.BATCH_KEY]
        message = r"shape \(40, 1\) do not fit 2 factor.*of every factor, the batch first"
        with pytest.raises(ValueError, match=message):
            module.inference(x, batch)
        with pytest.raises(ValueError, match=message):
            module.predict(torch.rand(40, 3), batch, torch.rand(40, 3), batch)
        with pytest.raises(ValueError, match=message):
            module(tensors)


@torch.no_grad()
def test_a_draw_replaces_the_tables_everywhere(tensors):
    """As if the posterior means were those drawn."""
    module, given = (make_module(deep_effects=True, sizes={"n_crossed": (3,)}) for _ in range(2))
    draw = module.eval().draw_effects(torch.Generator().manual_seed(0))
    assert draw.keys() == module.effect_tables.keys()
    for name, table in given.eval().effect_tables.items():
        table.loc.copy_(draw[name])
    x = tensors[REGISTRY_KEYS.X_KEY]
    levels = torch.cat([tensors[REGISTRY_KEYS.BATCH_KEY], torch.randint(3, (40, 1))], dim=1)
    ours, expected = module.inference(x, levels, draw=draw), given.inference(x, levels)
    assert torch.equal(ours["z"], expected["z"])
    inputs = ours["z"], levels, ours["content"], levels
    x_hat = module.predict(*inputs, draw=draw)
    assert torch.equal(x_hat, given.predict(*inputs))
    assert not torch.allclose(x_hat, module.predict(*inputs))
