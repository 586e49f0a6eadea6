"""What is optimised, by which optimiser, on how many passes, and what is logged."""

import warnings

import numpy as np
import pytest
import torch
from lightning import LightningDataModule
from lightning.pytorch.callbacks import LambdaCallback
from scvi.dataloaders import AnnDataLoader
from torch.optim.optimizer import register_optimizer_step_pre_hook

from scmedal_tools.module import REModule
from scmedal_tools.train import _natural_gradient, get_preset, quiet
from scmedal_tools.train._natural_gradient import NaturalGradient
from scmedal_tools.train._plans import _frozen
from scmedal_tools.train._re_plan import MINIBATCHES_A_MOVE, _check_precision

MODELS = ["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"]
LABELS = {"labels_key": "cell_type"}
QUICK = {"max_epochs": 2, "batch_size": 64, "accelerator": "cpu", "enable_progress_bar": False}
N_STEPS = 4  # two epochs of 128 training cells in minibatches of 64
SPLIT = [np.arange(128), np.arange(128, 200), np.arange(200, 240)]


@pytest.fixture
def trained(fit, adata):
    """Give a function that trains a model for ``N_STEPS`` steps."""

    def trained(name, **kwargs):
        split = {"external_indexing": SPLIT}
        return fit(name, adata, LABELS, datasplitter_kwargs=split, **kwargs)

    return trained


def history(model, key):
    return model.history[key].to_numpy(dtype=float).ravel()


def parameters(model, adversary):
    """Copies of the parameters of the adversary, or of all others."""
    return {
        name: parameter.detach().clone()
        for name, parameter in model.module.named_parameters()
        if name.startswith("adversary.") == adversary
    }


def names_in(model, *groups):
    """Names of the parameters in some groups of an optimiser."""
    names = {id(parameter): name for name, parameter in model.module.named_parameters()}
    return [names[id(parameter)] for group in groups for parameter in group["params"]]


def last_parts(names):
    return {name.rsplit(".", 1)[1] for name in names}


class TestOptimisers:
    @pytest.mark.parametrize("preset", ["default", "paper"])
    @pytest.mark.parametrize("name", MODELS)
    def test_every_parameter_exactly_once(self, trained, name, preset):
        self.check_once(trained(name, model={"preset": preset}))

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("preset", "optimizer"), [("default", "natural"), ("default", "adam"), ("paper", "adam")]
    )
    def test_every_parameter_exactly_once_with_either(self, trained, preset, optimizer):
        effects = get_preset("SCMEDAL_RE", preset).module["effects"]
        changes = {"preset": preset, "effects": effects | {"learn_prior": True}}
        plan = {"effects_optimizer": optimizer}
        self.check_once(trained("SCMEDAL_RE", model=changes, plan_kwargs=plan))

    @staticmethod
    def check_once(model):
        groups = [g for optimizer in model.trainer.optimizers for g in optimizer.param_groups]
        learned = [name for name, p in model.module.named_parameters() if p.requires_grad]
        assert sorted(names_in(model, *groups)) == sorted(learned)

    def test_the_adversary_has_its_own(self, trained):
        model = trained("SCMEDAL_FE", plan_kwargs={"lr": 0.02, "adversary_lr": 0.03})
        autoencoder, adversary = model.trainer.optimizers
        assert [group["lr"] for group in autoencoder.param_groups] == [0.02]
        assert [group["lr"] for group in adversary.param_groups] == [0.03]
        ours = {id(p) for group in adversary.param_groups for p in group["params"]}
        assert ours == {id(p) for p in model.module.adversary.parameters()}

    @pytest.mark.slow
    def test_after_training_the_effects_serve_any_optimiser(self, trained):
        tables = trained("SCMEDAL_RE").module.train().effect_tables.values()
        for table in tables:
            assert table.deviation is None
            table.kl().backward()
            assert table.rho.grad.any()

    @pytest.mark.slow
    def test_an_error_in_training_frees_the_effects_too(self, trained, build, adata):
        def fail(*_):
            raise OSError

        model = build("SCMEDAL_RE", adata)
        with pytest.raises(OSError):
            model.train(**QUICK, callbacks=[LambdaCallback(on_train_batch_end=fail)])
        assert not any(table.natural for table in model.module.effect_tables.values())

    def test_the_effects_have_their_own(self, trained):
        plan = {"lr": 0.02, "effects_lr": 0.05, "adversary_lr": 0.03, "lr_decay": 0.0}
        model = trained("SCMEDAL_RE", plan_kwargs=plan)
        kinds = [type(optimizer) for optimizer in model.trainer.optimizers]
        assert kinds == [torch.optim.Adam, NaturalGradient, torch.optim.Adam]
        groups = [optimizer.param_groups for optimizer in model.trainer.optimizers]
        assert [[group["lr"] for group in of_one] for of_one in groups] == [[0.02], [0.05], [0.03]]
        network, effects, adversary = (names_in(model, *of_one) for of_one in groups)
        assert last_parts(effects) == {"loc", "rho", "log_prior_sd"}
        assert not last_parts(effects) & last_parts(network)
        assert {name.split(".")[0] for name in adversary} == {"adversary"}
        n_train = model.trainer.optimizers[1].n_obs
        assert n_train == len(model.train_indices) == 128

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("preset", "learned"),
        [("default", {"loc", "rho", "log_prior_sd"}), ("paper", {"loc", "rho"})],
    )
    def test_adam_of_the_network_takes_the_effects_too(self, trained, preset, learned):
        plan = {"lr": 0.02, "effects_lr": 0.05, "lr_decay": 0.0, "effects_optimizer": "adam"}
        model = trained("SCMEDAL_RE", model={"preset": preset}, plan_kwargs=plan)
        kinds = {type(optimizer) for optimizer in model.trainer.optimizers}
        assert kinds == {torch.optim.Adam}
        network, effects = model.trainer.optimizers[0].param_groups
        assert (network["lr"], effects["lr"]) == (0.02, 0.05)
        assert last_parts(names_in(model, effects)) == learned
        assert not last_parts(names_in(model, network)) & learned

    def test_the_papers_preset_has_one_adam(self, trained):
        model = trained("SCMEDAL_RE", model={"preset": "paper"})
        (adam,) = model.trainer.optimizers
        assert type(adam) is torch.optim.Adam
        names = names_in(model, *adam.param_groups)
        for name in model.module.effect_tables:
            assert names.count(f"{name}.loc") == names.count(f"{name}.rho") == 1

    def test_the_effects_optimiser_is_one_of_two(self, trained):
        message = "effects_optimizer='sgd' is neither 'natural' nor 'adam'"
        with pytest.raises(ValueError, match=message):
            trained("SCMEDAL_RE", plan_kwargs={"effects_optimizer": "sgd"})

    def test_the_natural_gradient_needs_the_closed_form(self, trained):
        plan = {"effects_optimizer": "natural"}
        with pytest.raises(ValueError, match=r"'single draw': use effects_optimizer='adam'"):
            trained("SCMEDAL_RE", model={"preset": "paper"}, plan_kwargs=plan)

    @pytest.mark.slow
    def test_adam_after_the_natural_gradient_moves_standard_deviations(self, trained):
        model = trained("SCMEDAL_RE")
        before = model.module.output.bias.posterior_sd.detach().clone()
        plan = {"effects_optimizer": "adam", "effects_lr": 0.1}
        model.train(max_epochs=1, plan_kwargs=plan, enable_progress_bar=False, accelerator="cpu")
        assert ((model.module.output.bias.posterior_sd - before).abs() > 1e-4).all()

    def test_settings_come_from_the_preset(self, trained):
        model = trained("SCMEDAL_FEC", model={"preset": "paper"})
        plan = get_preset("SCMEDAL_FEC", "paper").plan
        for optimizer in model.trainer.optimizers:
            (group,) = optimizer.param_groups
            assert (group["lr"], group["eps"]) == (plan["lr"], plan["eps"])


class TestLearningRates:
    """Rates at every step, as the optimisers saw them."""

    N = 10  # five epochs of two minibatches

    @pytest.fixture
    def seen(self):
        """Rates of every group of every optimiser, by the two."""
        seen = {}

        def look(optimizer, args, kwargs):
            for i, group in enumerate(optimizer.param_groups):
                seen.setdefault((optimizer, i), []).append(group["lr"])

        hook = register_optimizer_step_pre_hook(look)
        yield seen
        hook.remove()

    @pytest.fixture
    def rates(self, trained, seen):
        """Give a function that trains for ``N`` steps and returns the rates of each group."""

        def rates(name, **plan):
            plan = {"lr": 0.02, "adversary_lr": 0.03, "adversary_steps": 1} | plan
            model = trained(name, max_epochs=5, early_stopping=False, plan_kwargs=plan)
            return self.of(seen, model)

        return rates

    @staticmethod
    def of(seen, model):
        optimizers = model.trainer.optimizers
        return [seen[o, i] for o in optimizers for i in range(len(o.param_groups))]

    LAST_FOUR = np.array([1.0] * 7 + [0.75, 0.5, 0.25])  # of ten steps

    @pytest.mark.slow
    @pytest.mark.parametrize("optimizer", ["natural", "adam"])
    def test_fall_to_zero_at_the_end(self, rates, optimizer):
        network, effects, adversary = rates(
            "SCMEDAL_RE", lr_decay=0.4, effects_lr=0.05, effects_optimizer=optimizer
        )
        np.testing.assert_allclose(network, 0.02 * self.LAST_FOUR)
        np.testing.assert_allclose(effects, 0.05 * self.LAST_FOUR)
        assert adversary == [0.03] * self.N

    def test_fall_from_the_first_step(self, rates):
        network, adversary = rates("SCMEDAL_FE", lr_decay=1.0)
        np.testing.assert_allclose(network, 0.02 * (1 - np.arange(self.N) / self.N))
        assert adversary == [0.03] * self.N

    @pytest.mark.slow
    def test_stay_without_decay(self, rates):
        network, effects, adversary = rates("SCMEDAL_RE", lr_decay=0.0, effects_lr=0.05)
        assert network == [0.02] * self.N
        assert effects == [0.05] * self.N
        assert adversary == [0.03] * self.N

    @pytest.mark.slow
    def test_presets(self, rates):
        """The default of the random effects decays, that of the fixed effects does not."""
        network, effects, _ = rates("SCMEDAL_RE", effects_lr=0.05)
        assert network[0] == 0.02
        assert network[-1] < network[-2] < network[0]
        np.testing.assert_allclose(np.divide(effects, 0.05), np.divide(network, 0.02))
        assert rates("SCMEDAL_FE")[0] == [0.02] * self.N

    @pytest.mark.slow
    def test_a_later_training_starts_anew(self, trained, seen):
        plan = {"lr": 0.02, "effects_lr": 0.05, "adversary_lr": 0.03}
        model = trained("SCMEDAL_RE", plan_kwargs=plan)
        first = self.of(seen, model)
        split = {"external_indexing": SPLIT}
        model.train(**QUICK, plan_kwargs=plan, datasplitter_kwargs=split)
        assert self.of(seen, model) == first
        assert [rates[0] for rates in first] == [0.02, 0.05, 0.03]


class TestFewBatches:
    MESSAGE = "4 batches are too few to estimate how much batches vary"

    @pytest.mark.slow
    def test_are_warned_of(self, trained):
        with pytest.warns(UserWarning, match=self.MESSAGE):
            trained("SCMEDAL_RE")

    @pytest.mark.slow
    def test_are_warned_of_under_the_filter_that_the_documentation_advises(self, trained):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            quiet()
            trained("SCMEDAL_RE")
        (few,) = (w for w in found if self.MESSAGE in str(w.message))
        assert "scmedal_tools" in few.filename

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("SCMEDAL_RE", {"model": {"preset": "paper"}}),
            ("SCMEDAL_RE", {"plan_kwargs": {"effects_optimizer": "adam"}}),
            ("SCMEDAL_FE", {}),
        ],
    )
    def test_are_none_of_others_business(self, trained, name, arguments):
        assert not self.found(lambda: trained(name, **arguments))

    @pytest.mark.slow
    def test_five_are_enough(self, fit, adata):
        adata.obs["plate"] = np.array(list("ABCDE"))[np.arange(240) % 5]
        assert not self.found(lambda: fit("SCMEDAL_RE", adata, {"batch_key": "plate"}))

    @staticmethod
    def found(train):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            train()
        return [w for w in found if "batches are too few" in str(w.message)]

    @pytest.mark.slow
    def test_hold_the_scale_near_its_start(self, fit, adata, monkeypatch):
        """Start 0.1; the trained scale mixes it with what the effects say."""
        monkeypatch.setattr(REModule, "centre_effects", lambda module: None)
        adata.obs["plate"] = np.array(list("ABCD"))[np.arange(240) % 4]
        model = fit("SCMEDAL_RE", adata, {"batch_key": "plate"})
        for table in model.module.effect_tables.values():
            mean, sd = table.loc.detach().numpy(), table.posterior_sd.detach().numpy()
            expected = 0.8 * np.mean(mean**2 + sd**2) + 0.2 * 0.1**2
            assert table.prior_sd.item() == pytest.approx(expected**0.5, rel=1e-4)


class TestEffects:
    """What is common to all batches, and when the scales settle."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("optimizer", "batch_size", "moves"),
        # The last ones of an epoch do not wait for minibatches of the next.
        [
            ("natural", 64, [2, 2]),
            ("natural", 16, [4, 4, 4, 4]),
            ("natural", 22, [4, 2, 4, 2]),
            ("adam", 64, []),
        ],
    )
    def test_they_move_and_are_centred_every_four_minibatches(
        self, trained, monkeypatch, optimizer, batch_size, moves
    ):
        """128 training cells, two epochs."""
        calls, centre = [], REModule.centre_effects
        monkeypatch.setattr(REModule, "centre_effects", lambda m: calls.append(centre(m)))
        n_kept, step = [], NaturalGradient._move_posterior
        monkeypatch.setattr(
            NaturalGradient,
            "_move_posterior",
            lambda self, table, part: n_kept.append(self.n_kept) or step(self, table, part),
        )
        plan = {"effects_optimizer": optimizer}
        model = trained("SCMEDAL_RE", plan_kwargs=plan, batch_size=batch_size)
        n_tables = len(model.module.effect_tables)
        assert n_kept[::n_tables] == moves
        assert len(calls) == len(moves)

    def test_half_precision_is_refused(self):
        with pytest.raises(ValueError, match="use precision='bf16-mixed' or '32-true'"):
            _check_precision("16-mixed")
        assert all(_check_precision(precision) is None for precision in ("32-true", "bf16-mixed"))

    @pytest.mark.slow
    def test_scales_settle_after_half_of_the_steps(self, fit, adata, monkeypatch):
        epochs, settled_in = [], []
        monkeypatch.setattr(
            _natural_gradient,
            "marginal_change",
            lambda h, *_: settled_in.append(epochs[-1]) or torch.zeros(()),
        )
        begin = LambdaCallback(on_train_epoch_start=lambda t, _: epochs.append(t.current_epoch))
        adata.obs["plate"] = np.array(list("ABCDE"))[np.arange(240) % 5]
        setup = {"batch_key": "plate"}
        model = fit("SCMEDAL_RE", adata, setup, early_stopping=False, callbacks=[begin])
        n_tables = len(model.module.effect_tables)
        # In the second epoch of two, whose minibatches move them once.
        assert model.trainer.num_training_batches <= MINIBATCHES_A_MOVE
        assert settled_in == [1] * n_tables


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


@pytest.mark.slow
def test_a_second_training_draws_effects_again(fit, adata):
    model = fit("SCMEDAL_RE", adata)
    assert not model.module.training
    modes = []
    hook = model.module.output.register_forward_pre_hook(
        lambda block, inputs: modes.append(block.training)
    )
    model.train(max_epochs=1, batch_size=64, enable_progress_bar=False, accelerator="cpu")
    hook.remove()
    assert any(modes)
    assert not model.module.training
