"""The training of the random effects: few batches, centred effects, and scales that settle."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback

from scmedal_tools.module import REModule
from scmedal_tools.train import _natural_gradient, _re_plan, quiet
from scmedal_tools.train._natural_gradient import NaturalGradient
from scmedal_tools.train._re_plan import RETrainingPlan, _check_precision

from .four_steps import SPLIT


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
    """When they move, what is common to all batches, and when the scales settle."""

    @pytest.fixture
    def n_kept(self, monkeypatch):
        """The minibatches by whose gradients a table has moved, for each time."""
        n_kept, move = [], NaturalGradient._move_posterior

        def moved(optimizer, table, part):
            n_kept.append(optimizer.n_kept)
            move(optimizer, table, part)

        monkeypatch.setattr(NaturalGradient, "_move_posterior", moved)
        return n_kept

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("optimizer", "n_batch", "moves"),
        [
            ("natural", 4, [1] * 4),  # at every minibatch
            ("natural", 70, [2, 2]),
            ("adam", 4, []),
        ],
    )
    def test_they_move_and_are_centred_together(
        self, fit, adata, n_kept, monkeypatch, optimizer, n_batch, moves
    ):
        """Two epochs of two minibatches of 64 cells."""
        adata.obs["plate"] = (np.arange(240) % n_batch).astype(str)
        calls, centre = [], REModule.centre_effects
        monkeypatch.setattr(REModule, "centre_effects", lambda m: calls.append(centre(m)))
        options = {"plan_kwargs": {"effects_optimizer": optimizer}}
        options["datasplitter_kwargs"] = {"external_indexing": SPLIT}
        model = fit("SCMEDAL_RE", adata, {"batch_key": "plate"}, **options)
        assert n_kept[:: len(model.module.effect_tables)] == moves
        assert len(calls) == len(moves)

    @pytest.mark.parametrize(
        ("n_levels", "n_cells", "n"),
        [
            ((20,), 256, 1),
            ((256,), 256, 1),
            ((257,), 256, 2),
            ((3, 1000), 256, 4),
            ((9999,), 8, 4),
        ],
    )
    def test_minibatches_in_which_each_batch_has_a_cell(self, n_levels, n_cells, n):
        plan = SimpleNamespace(module=SimpleNamespace(n_levels=n_levels))
        minibatch = {"batch": torch.zeros(n_cells, 1)}
        assert RETrainingPlan._minibatches_per_move(plan, minibatch) == n

    def test_cells_of_all_processes_count(self, monkeypatch):
        monkeypatch.setattr(_re_plan, "n_processes", lambda: 2)
        plan = SimpleNamespace(module=SimpleNamespace(n_levels=(512,)))
        minibatch = {"batch": torch.zeros(256, 1)}
        assert RETrainingPlan._minibatches_per_move(plan, minibatch) == 1

    @pytest.mark.slow
    def test_the_last_ones_of_an_epoch_do_not_wait(self, trained, n_kept, monkeypatch):
        """Of six minibatches of 22 cells four move the effects, then two."""
        monkeypatch.setattr(RETrainingPlan, "_minibatches_per_move", lambda *_: 4)
        model = trained("SCMEDAL_RE", batch_size=22)
        assert n_kept[:: len(model.module.effect_tables)] == [4, 2, 4, 2]

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
        # All of the second epoch of two.
        assert settled_in == [1] * n_tables * model.trainer.num_training_batches


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
