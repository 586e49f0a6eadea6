"""Which optimiser takes which parameters, at which learning rates."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch.optim.optimizer import register_optimizer_step_pre_hook

from scmedal_tools.train import get_preset
from scmedal_tools.train._natural_gradient import NaturalGradient

from .four_steps import MODELS, QUICK, SPLIT


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
