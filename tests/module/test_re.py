"""Random-effects module: what dropout reaches, and the parts that settings switch off."""

import pytest
import torch
from scvi import REGISTRY_KEYS

from scmedal_tools.module import REModule
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


def make_module(preset="default", **changes):
    torch.manual_seed(1)
    module = REModule(**SIZES, **get_preset("SCMEDAL_RE", preset).module | changes)
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
        torch.testing.assert_close(x[~left_out], (x_scaled / (1 - share))[~left_out])

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
        assert make_module().input_dropout == 0.45
        assert make_module("paper").input_dropout == 0


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
    assert make_module().adversary[2].p == 0.5


def test_axes_are_saved_and_start_empty():
    state = make_module().state_dict()
    for name in ("expression_axes", "expression_centre"):
        assert not state[name].any()
    assert not any("axes" in name for name, _ in make_module().named_parameters())


class TestWhereEffectsAre:
    def test_next_to_the_latent_and_at_the_genes(self):
        torch.manual_seed(0)
        settings = get_preset("SCMEDAL_RE", "default").module
        module = REModule(N_GENES, N_BATCH, (9, 8, 7), 3, **settings)
        layers = {name.rsplit(".", 1)[0] for name in module.effect_tables}
        assert layers == {"encoder.2", "bottleneck", "decoder.0", "output"}

    def test_everywhere_if_deep(self):
        layers = {name.rsplit(".", 1)[0] for name in make_module(deep_effects=True).effect_tables}
        hidden = {f"{side}.{i}" for side in ("encoder", "decoder") for i in (0, 1)}
        assert layers == hidden | {"bottleneck", "output"}

    def test_a_context_within_another_gives_back_what_it_found(self):
        module = make_module()
        outer = {name: torch.ones_like(t.loc) for name, t in module.effect_tables.items()}
        with module.effects_fixed_at(outer):
            with module.effects_fixed_at({"output.bias": torch.zeros(N_BATCH, N_GENES)}):
                assert not module.output.bias.fixed.any()
                assert module.output.slope.fixed is outer["output.slope"]
            assert module.output.bias.fixed is outer["output.bias"]
        assert all(table.fixed is None for table in module.effect_tables.values())

    def test_only_blocks_with_effects_absorb(self):
        module = make_module()
        for table in module.effect_tables.values():
            torch.nn.init.normal_(table.loc, 0.02, 0.01)
        module.absorb_common_effects()
        for table in module.effect_tables.values():
            torch.testing.assert_close(table.loc.mean(0), torch.zeros(table.loc.shape[1]))

    def test_there_is_a_hidden_layer(self):
        settings = get_preset("SCMEDAL_RE", "default").module
        with pytest.raises(ValueError, match="n_hidden is empty"):
            REModule(N_GENES, N_BATCH, (), 3, **settings)
