"""The paper's preset computes what the reference implementation computes."""

import pytest
import torch
from golden import GOLDEN, arrays, assert_close, load_weights
from scvi import REGISTRY_KEYS

from scmedal_tools.module import FEModule, REModule
from scmedal_tools.train import get_preset

SIZES = {"n_input": 20, "n_batch": 4, "n_hidden": (8, 6), "n_latent": 3}
X = torch.as_tensor(GOLDEN["x"])
BATCH = torch.as_tensor(GOLDEN["batch"]).long()
TENSORS = {
    REGISTRY_KEYS.X_KEY: X,
    REGISTRY_KEYS.BATCH_KEY: BATCH[:, None],
    REGISTRY_KEYS.LABELS_KEY: torch.as_tensor(GOLDEN["celltype"]).long()[:, None],
}


def fixed_effects(model):
    """FE and FEC with the AML weights of the paper; AEC is FEC without adversary."""
    preset = get_preset("SCMEDAL_FE" if model == "fe" else "SCMEDAL_FEC", "paper").module
    changes = {"adversary_hidden": (8, 6)}
    if model == "aec":
        changes |= {"adversary_weight": 0, "reconstruction_weight": 100, "label_weight": 0.6}
    n_labels = 0 if model == "fe" else 5
    module = FEModule.from_settings(preset | changes, **SIZES, n_labels=n_labels)
    load_weights(module, model)
    return module


@pytest.fixture
def random_effects():
    module = REModule.from_settings(get_preset("SCMEDAL_RE", "paper").module, **SIZES)
    load_weights(module, "re")
    return module


def forward(module, **options):
    inference = module.inference(**module._get_inference_input(TENSORS), **options)
    inputs = module._get_generative_input(TENSORS, inference)
    generative = module.generative(**inputs, **options)
    return inference, generative, module.loss(TENSORS, inference, generative)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("model", ["fe", "fec"])
def test_fixed_effects_forward_and_losses(model, mode):
    module = fixed_effects(model).train(mode == "train")
    inference, generative, output = forward(module)
    expected = arrays(model, mode)
    assert_close(inference["activations"][0], expected["enc_act_0"])
    assert_close(inference["activations"][1], expected["enc_act_1"])
    assert_close(inference["z"], expected["latent"])
    assert_close(generative["x_hat"], expected["recon"])
    features = module.adversary_features(inference)
    assert_close(module.adversary(features).softmax(1), expected["adv_prob"])
    assert_close(output.reconstruction_loss_sum / 12, expected["loss_recon"])
    assert_close(output.extra_metrics["adversary_ce"], expected["loss_adv"])
    assert_close(output.loss, expected["loss_total"])
    if model == "fec":
        assert_close(generative["label_logits"].softmax(1), expected["celltype_prob"])
        assert_close(output.extra_metrics["label_ce"], expected["loss_class"])


def test_autoencoder_classifier():
    inference, generative, output = forward(fixed_effects("aec").eval())
    expected = arrays("aec", "eval")
    assert_close(inference["z"], expected["latent"])
    assert_close(generative["x_hat"], expected["recon"])
    assert_close(generative["label_logits"].softmax(1), expected["celltype_prob"])
    assert_close(output.reconstruction_loss_sum / 12, expected["loss_recon"])
    assert_close(output.extra_metrics["label_ce"], expected["loss_class"])
    assert_close(output.loss, expected["loss_total"])


def assert_gradients_close(parameters, expected, before_norm, tolerance=1e-5):
    for name, gradient in expected.items():
        layer, kind = name.rsplit(".", 1)
        if kind == "bias" and layer.endswith(before_norm):
            # Batch norm removes this bias: its gradient is zero, and both sides hold rounding.
            largest = expected[f"{layer}.weight"].abs().max()
            assert parameters[name].grad.abs().max() <= 1e-5 * largest
            assert gradient.abs().max() <= 1e-5 * largest
        else:
            assert_close(parameters[name].grad, gradient, tolerance)


@pytest.mark.parametrize("model", ["fe", "fec"])
def test_fixed_effects_gradients(model):
    module = fixed_effects(model).train()
    inference, _, output = forward(module)
    features = module.adversary_features(inference).detach()
    output.loss.backward()
    expected = arrays(model, "train.grad_total")
    gradients = dict(module.named_parameters())
    assert expected.keys() == {n for n in gradients if not n.startswith("adversary")}
    assert_gradients_close(gradients, expected, before_norm=("layers.0", "layers.1"))

    module.zero_grad()
    module.adversary_cross_entropy(features, TENSORS).backward()
    expected = arrays(model, "train.grad_advloss")
    assert expected.keys() == {n for n in gradients if n.startswith("adversary")}
    for name, gradient in expected.items():
        assert_close(gradients[name].grad, gradient)


def assert_moving_statistics(module, expected):
    state = module.state_dict()
    assert expected
    for name, moving in expected.items():
        if name.endswith("running_var"):
            # torch's running variance is unbiased, the reference's biased: undo it for one step.
            before = module.initial[name]
            ours = 0.99 * before + (state[name] - 0.99 * before) * 11 / 12
        else:
            ours = state[name]
        assert_close(ours, moving)


@pytest.mark.parametrize("model", ["fe", "fec"])
def test_fixed_effects_moving_statistics(model):
    module = fixed_effects(model).train()
    module.initial = {k: v.clone() for k, v in module.state_dict().items()}
    module.inference(X)
    assert_moving_statistics(module, arrays(model, "train.after"))


def random_effects_activations(module):
    inference = module.inference(X, BATCH, sample=False)
    activations, h = [], X
    for block in module.encoder:
        activations.append(h := block(h, BATCH, sample=False))
    h = inference["z"]
    for block in [*module.decoder, module.output]:
        activations.append(h := block(h, BATCH, sample=False))
    return activations


def test_random_effects_forward_and_losses(random_effects):
    module = random_effects.eval()
    inference, generative, output = forward(module)
    expected = arrays("re", "eval")
    names = ["enc_act_0", "enc_act_1", "dec_act_0", "dec_act_1", "dec_act_2"]
    for ours, name in zip(random_effects_activations(module), names, strict=True):
        assert_close(ours, GOLDEN[f"re.eval.{name}"])
    assert_close(inference["z"], expected["latent"])
    assert_close(generative["x_hat"], expected["recon"])
    assert_close(module.batch_classifier(inference["z"]).softmax(1), expected["batch_prob"])
    assert_close(output.reconstruction_loss_sum / 12, expected["loss_recon"])
    assert_close(output.extra_metrics["batch_ce"], expected["loss_batch_ce"])
    module.kl_weight = 0.0
    assert_close(forward(module)[2].loss, expected["loss_total_without_kl"])


def test_random_effects_counterfactuals(random_effects):
    module = random_effects.eval()
    target = torch.full_like(BATCH, 2)
    both = module.inference(X, target)["z"]
    decoder = module.inference(X, BATCH)["z"]
    expected = arrays("re", "cf_batch2")
    assert_close(both, expected["latent"])
    ours = module.generative(both, target)["x_hat"]
    assert_close(ours, expected["recon_swap_encoder_and_decoder"])
    ours = module.generative(decoder, target)["x_hat"]
    assert_close(ours, expected["recon_swap_decoder_only"])


def test_random_effects_training(random_effects):
    module = random_effects.train()
    module.kl_weight = 0.0
    module.initial = {k: v.clone() for k, v in module.state_dict().items()}
    inference, generative, output = forward(module, sample=False)
    output.loss.backward()
    expected = arrays("re", "train_det")
    assert_close(inference["z"], expected["latent"], 2e-3)
    assert_close(generative["x_hat"], expected["recon"], 2e-3)
    assert_close(output.reconstruction_loss_sum / 12, expected["loss_recon"], 2e-3)
    gradients = dict(module.named_parameters())
    expected = arrays("re", "train_det.grad")
    assert expected.keys() == {
        n for n in gradients if n.rsplit(".", 1)[1] not in ("rho", "log_prior_sd")
    }
    before_norm = ("encoder.0.dense", "encoder.1.dense", "output.dense")
    assert_gradients_close(gradients, expected, before_norm, 2e-3)
    assert_moving_statistics(module, arrays("re", "train_det.after"))


def test_kl(random_effects):
    exact, single = {}, {}
    for name, table in random_effects.effect_tables.items():
        reference = reference_table(name)
        exact[name], noise = table.kl(), torch.as_tensor(GOLDEN[f"re.kl.eps.{reference}"])
        assert_close(exact[name], GOLDEN[f"re.kl.exact.{reference}"])
        single[name] = noise
        assert_close(table.kl_of_draw(noise), GOLDEN[f"re.kl.mc.{reference}"])
    assert_close(random_effects.kl(), GOLDEN["re.kl.plain_sum_exact"])
    aggregate = 1e-5 * random_effects.kl_per_table(single)
    assert_close(aggregate, GOLDEN["re.kl.reference_aggregate_mc"])


def reference_table(name: str) -> str:
    layer, table = name.rsplit(".", 1)
    layer = {"output": "dec.2"}.get(
        layer, layer.replace("encoder", "enc").replace("decoder", "dec")
    )
    return f"{layer}.{'re_scale' if table == 'slope' else 're_bias'}"
