"""What is optimised, on how many passes, and what is logged."""

import numpy as np
import pytest
import torch
from lightning import LightningDataModule
from scvi.dataloaders import AnnDataLoader

from scmedal_tools.train import get_preset
from scmedal_tools.train._plans import _frozen

from .four_steps import LABELS, MODELS, N_STEPS, SPLIT


def history(model, key):
    return model.history[key].to_numpy(dtype=float).ravel()


def parameters(model, adversary):
    """Copies of the parameters of the adversary, or of all others."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.module.named_parameters()
        if name.startswith("adversary.") == adversary
    }


class TestSteps:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "owner"), [("SCMEDAL_FE", "autoencoder"), ("SCMEDAL_RE", "")]
    )
    def test_one_pass_through_the_encoder_and_one_back(self, build, adata, name, owner):
        model = build(name, adata)
        encoder = model.module.get_submodule(owner)
        encode, passes = encoder.encode, {"forward": 0, "backward": 0}

        def back(_):
            passes["backward"] += 1

        def counted(*args, **kwargs):
            output = encode(*args, **kwargs)
            if not encoder.training:
                return output
            passes["forward"] += 1
            # Joined and parted again, so that a gradient arrives once for each backward pass.
            activations = output if isinstance(output, list) else [output]
            whole = torch.cat(activations, dim=1)
            whole.register_hook(back)
            parts = whole.split([a.shape[1] for a in activations], dim=1)
            return list(parts) if isinstance(output, list) else parts[0]

        encoder.encode = counted
        model.train(
            max_epochs=2,
            batch_size=64,
            accelerator="cpu",
            enable_progress_bar=False,
            datasplitter_kwargs={"external_indexing": SPLIT},
            plan_kwargs={"adversary_steps": 3},
        )
        assert passes == {"forward": N_STEPS, "backward": N_STEPS}

    @pytest.mark.parametrize("n", [1, 3])
    def test_steps_of_the_adversary(self, trained, n):
        model = trained("SCMEDAL_FE", plan_kwargs={"adversary_steps": n})
        steps = [
            {int(state["step"]) for state in optimizer.state.values()}
            for optimizer in model.trainer.optimizers
        ]
        assert steps == [{N_STEPS}, {n * N_STEPS}]

    @pytest.mark.parametrize("name", MODELS)
    def test_the_autoencoder_does_not_move_the_adversary(self, build, fit, adata, name):
        untouched = parameters(build(name, adata, LABELS), adversary=True)
        model = fit(name, adata, LABELS, early_stopping=False, plan_kwargs={"adversary_lr": 0.0})
        assert untouched
        for key, value in parameters(model, adversary=True).items():
            assert torch.equal(value, untouched[key])

    @pytest.mark.slow
    @pytest.mark.parametrize("name", MODELS)
    def test_the_adversary_does_not_move_the_autoencoder_and_learns(self, build, fit, adata, name):
        changes = {"input_dropout": 0.0, "adversary_dropout": 0.0}  # which slow the adversary
        if name == "SCMEDAL_RE":
            # Learned scales of the priors follow the posteriors at any learning rate.
            effects = get_preset(name, "default").module["effects"]
            changes["effects"] = effects | {"learn_prior": False}
        untouched = parameters(build(name, adata, LABELS, **changes), adversary=False)
        model = fit(
            name,
            adata,
            LABELS,
            changes,
            max_epochs=10,
            early_stopping=False,
            plan_kwargs={"lr": 0.0, "adversary_lr": 0.01}
            | ({"effects_lr": 0.0} if name == "SCMEDAL_RE" else {}),
        )
        for key, value in parameters(model, adversary=False).items():
            assert torch.equal(value, untouched[key]), key
        cross_entropy = history(model, "adversary_ce_train")
        assert cross_entropy[-1] < 0.9 * cross_entropy[0]

    def test_the_loss_of_the_autoencoder_has_no_gradient_for_the_adversary(self, build, adata):
        model = build("SCMEDAL_FE", adata)
        loss, adversary, takes_gradient = model.module.loss, model.module.adversary, []

        def watched(*args, **kwargs):
            if model.module.training:
                takes_gradient.extend(p.requires_grad for p in adversary.parameters())
            return loss(*args, **kwargs)

        model.module.loss = watched
        model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        assert takes_gradient
        assert not any(takes_gradient)
        assert all(p.requires_grad for p in adversary.parameters())

    def test_an_interrupted_step_leaves_the_adversary_able_to_learn(self, build, adata):
        adversary = build("SCMEDAL_FE", adata).module.adversary

        def interrupted():
            with _frozen(adversary):
                assert not any(p.requires_grad for p in adversary.parameters())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert all(p.requires_grad for p in adversary.parameters())


class TestObjective:
    @pytest.mark.parametrize(
        ("objective", "cross_entropy", "value", "slope"),
        [
            ("bounded", 0.4, 3.0, -5.0),
            ("bounded", 1.5, 0.0, 0.0),
            ("unbounded", 0.4, -2.0, -5.0),
            ("unbounded", 1.5, -7.5, -5.0),
        ],
    )
    def test_penalty(self, build, adata, objective, cross_entropy, value, slope):
        changes = {"adversarial_objective": objective, "adversary_weight": 5.0}
        module = build("SCMEDAL_FE", adata, **changes).module
        module.batch_entropy.fill_(1.0)
        cross_entropy = torch.tensor(cross_entropy, requires_grad=True)
        penalty = module.adversarial_penalty(cross_entropy)
        penalty.backward()
        assert penalty.item() == pytest.approx(value)
        assert cross_entropy.grad.item() == pytest.approx(slope)

    def test_validation_loss_of_the_fixed_effects(self, trained):
        changes = {"adversary_weight": 2.0, "label_weight": 3.0, "reconstruction_weight": 4.0}
        model = trained("SCMEDAL_FEC", model=changes | {"adversarial_objective": "unbounded"})
        expected = (
            4 * history(model, "reconstruction_loss_validation")
            - 2 * history(model, "adversary_ce_validation")
            + 3 * history(model, "label_ce_validation")
        )
        np.testing.assert_allclose(history(model, "validation_loss"), expected, rtol=1e-5)

    @pytest.mark.slow
    def test_validation_loss_of_the_random_effects(self, trained):
        changes = {"adversary_weight": 0.0, "batch_weight": 2.0, "kl_weight": 3.0}
        model = trained("SCMEDAL_RE", model=changes)
        expected = (
            history(model, "reconstruction_loss_validation")
            + 2 * history(model, "batch_ce_validation")
            + 3 * history(model, "kl_global_validation") / 128
        )
        np.testing.assert_allclose(history(model, "validation_loss"), expected, rtol=1e-5)


class TestSelection:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", MODELS)
    def test_reconstruction_and_what_the_adversary_can_read(self, trained, name):
        model = trained(name, model={"adversary_weight": 7.0, "reconstruction_weight": 2.0})
        readable = model.module.batch_entropy.item() - history(model, "adversary_ce_validation")
        expected = 2 * history(model, "reconstruction_loss_validation")
        expected = expected + 7 * readable.clip(0)
        np.testing.assert_allclose(history(model, "selection_validation"), expected, rtol=1e-5)

    def test_reconstruction_alone_without_an_adversary(self, trained):
        model = trained("SCMEDAL_FEC", model={"adversary_weight": 0.0})
        assert len(model.trainer.optimizers) == 1
        np.testing.assert_allclose(
            history(model, "selection_validation"),
            history(model, "reconstruction_loss_validation"),
            rtol=1e-6,
        )


class TestScaling:
    def test_is_fitted_to_the_training_cells(self, trained, adata):
        model = trained("SCMEDAL_FE")
        x = adata.X.toarray()[:128].astype(np.float64)
        scaler = model.module.scaler
        np.testing.assert_allclose(scaler.shift, x.mean(0), rtol=1e-5)
        assert scaler.scale.item() == pytest.approx(x.var(0).mean() ** 0.5, rel=1e-5)

    def test_a_later_training_keeps_the_first(self, trained):
        model = trained("SCMEDAL_FE")
        shift = model.module.scaler.shift.clone()
        model.train(
            max_epochs=1,
            accelerator="cpu",
            enable_progress_bar=False,
            datasplitter_kwargs={"external_indexing": SPLIT[::-1]},
        )
        assert torch.equal(model.module.scaler.shift, shift)
        assert len(model.history["train_loss"]) == 3


@pytest.mark.parametrize("name", MODELS)
def test_batch_norm_survives_a_last_minibatch_of_one_cell(fit, adata, name):
    split = {"external_indexing": [np.arange(33), np.arange(33, 66), np.arange(66, 240)]}
    model = fit(name, adata, LABELS, {"preset": "paper"}, batch_size=32, datasplitter_kwargs=split)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_RE"])
def test_a_data_module_need_not_say_how_many_cells_it_has(build, adata, name):
    class Minibatches(LightningDataModule):
        def train_dataloader(self):
            return AnnDataLoader(model.adata_manager, indices=range(200), batch_size=50)

        def val_dataloader(self):
            return AnnDataLoader(model.adata_manager, indices=range(200, 240), batch_size=50)

    model = build(name, adata)
    for _ in range(2):  # the statistics are there the second time
        model.train(datamodule=Minibatches(), max_epochs=1, enable_progress_bar=False)
        assert model.trainer.lightning_module.n_obs_training == 200
        assert name == "SCMEDAL_FE" or model.is_finished
    assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()
