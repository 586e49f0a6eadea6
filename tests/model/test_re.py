"""Random effects: whether they are alive and settled."""

import warnings

import numpy as np
import pytest
import torch

from .swaps import DONORS

ADAM = {"effects_optimizer": "adam"}


def squared_error(model, reconstruction, rows=slice(None)):
    """Sum over cells and genes of the squared distance to what was measured."""
    return np.square(model.adata.X.toarray()[rows] - reconstruction).sum(dtype=float)


def assert_are_cells(minibatches, model, rows):
    read = torch.cat([tensors["X"] for tensors in minibatches])
    np.testing.assert_array_equal(read, model.adata.X.toarray()[np.sort(rows)])


class TestSwapGap:
    @pytest.fixture(scope="class")
    def halves(self, fit, cells):
        """Model of two batches, so that there is one wrong batch for each cell."""
        adata = cells.copy()
        adata.obs["half"] = np.where(adata.obs["donor"].isin(DONORS[:2]), "first", "second")
        return fit("SCMEDAL_RE", adata, {"batch_key": "half"}, plan_kwargs={"effects_lr": 0.2})

    @staticmethod
    def with_other_half(model, **kwargs):
        swapped = model.get_counterfactual_expression(
            transform_batch=["first", "second"], return_numpy=True, **kwargs
        )
        first = (model.adata.obs["half"] == "first").to_numpy()[:, None]
        return np.where(first, swapped["second"], swapped["first"])

    @pytest.mark.parametrize("rows", [slice(None), np.arange(5, 205, 3)])
    def test_two_batches(self, halves, rows):
        wrong = squared_error(halves, self.with_other_half(halves)[rows], rows)
        own = squared_error(halves, halves.get_reconstruction(return_numpy=True)[rows], rows)
        indices = None if isinstance(rows, slice) else rows
        assert halves.get_swap_gap(indices=indices) == pytest.approx(wrong / own, rel=1e-4)
        assert abs(wrong / own - 1) > 1e-3

    def test_other_cells(self, halves):
        rows = np.arange(0, 240, 2)
        other = halves.adata[rows].copy()
        ours = halves.get_swap_gap(other)
        assert ours == pytest.approx(halves.get_swap_gap(indices=rows), rel=1e-5)

    def test_papers_preset_swaps_the_decoder(self, fit, cells):
        adata = cells.copy()
        adata.obs["half"] = np.where(adata.obs["donor"].isin(DONORS[:2]), "first", "second")
        model = fit("SCMEDAL_RE", adata, {"batch_key": "half"}, {"preset": "paper"})
        wrong = squared_error(model, self.with_other_half(model, swap="decoder"))
        own = squared_error(model, model.get_reconstruction(return_numpy=True))
        assert model.get_swap_gap() == pytest.approx(wrong / own, rel=1e-4)

    def test_wrong_batches_are_drawn_evenly(self, re):
        """On average over seeds the error is that of the three wrong batches in turn."""
        swapped = re.get_counterfactual_expression(transform_batch=DONORS, return_numpy=True)
        own = squared_error(re, re.get_reconstruction(return_numpy=True))
        every = sum(squared_error(re, values) for values in swapped.values())
        gaps = [re.get_swap_gap(seed=seed) for seed in range(40)]
        error = np.std(gaps) / len(gaps) ** 0.5
        assert error > 0
        assert np.mean(gaps) == pytest.approx((every - own) / (3 * own), abs=4 * error)

    def test_is_one_without_effects(self, without_effects):
        assert without_effects.get_swap_gap() == 1

    def test_seed_decides_and_minibatches_do_not(self, re):
        gap = re.get_swap_gap(seed=1)
        assert gap == re.get_swap_gap(seed=1)
        assert gap != re.get_swap_gap(seed=2)
        assert re.get_swap_gap(seed=1, batch_size=17) == pytest.approx(gap, rel=1e-5)

    def test_leaves_the_global_generators_alone(self, re):
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        re.get_swap_gap()
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])

    def test_untrained(self, build, adata):
        with pytest.raises(RuntimeError, match="not trained yet"):
            build("SCMEDAL_RE", adata).get_swap_gap()


class TestCollapse:
    MESSAGE = "random effects have collapsed: .* by a factor of "

    @pytest.fixture
    def caught(self, build, adata):
        """Give a function that trains a model and returns the warnings of collapse."""

        def caught(model=None, gap=None, **kwargs):
            model = build("SCMEDAL_RE", adata, **(model or {}))
            asked = {}
            if gap is not None:
                model.get_swap_gap = lambda **arguments: asked.update(arguments) or gap
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                model.train(
                    max_epochs=2,
                    batch_size=64,
                    accelerator="cpu",
                    enable_progress_bar=False,
                    **kwargs,
                )
            return model, asked, [w for w in found if "have collapsed" in str(w.message)]

        return caught

    def test_effects_that_do_nothing(self, fit, adata):
        with pytest.warns(UserWarning, match=self.MESSAGE + r"1\.0000"):
            fit("SCMEDAL_RE", adata, model={"n_states": 0}, plan_kwargs={"effects_lr": 0.0})

    def test_names_the_line_that_trains(self, build, adata):
        model = build("SCMEDAL_RE", adata)
        model.get_swap_gap = lambda **_: 1.0
        line = "model.train(max_epochs=1, accelerator='cpu', enable_progress_bar=False)"
        with pytest.warns(UserWarning, match=self.MESSAGE) as found:
            exec(compile(line, "the user's script", "exec"))
        (warning,) = (w for w in found if "have collapsed" in str(w.message))
        assert warning.filename == "the user's script"

    @pytest.mark.slow
    def test_living_effects(self, caught):
        model, _, found = caught(plan_kwargs={"effects_lr": 0.2})
        assert model.get_swap_gap() > 1.01
        assert not found

    @pytest.mark.slow
    @pytest.mark.parametrize(("gap", "n"), [(1.0019, 1), (1.0021, 0)])
    def test_where_the_line_is(self, caught, gap, n):
        assert len(caught(gap=gap)[2]) == n

    def test_is_looked_for_in_validation_cells(self, caught):
        model, asked, _ = caught(gap=2.0)
        assert_are_cells(asked["dataloader"], model, model.validation_indices)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "split",
        [
            {"train_size": 1.0},
            {"datasplitter_kwargs": {"external_indexing": np.split(np.arange(240), [200, 200])}},
        ],
    )
    def test_else_in_training_cells(self, caught, split):
        model, asked, _ = caught(gap=2.0, early_stopping=False, **split)
        assert_are_cells(asked["dataloader"], model, model.train_indices)

    def test_papers_preset_is_left_as_it_was(self, caught):
        _, asked, found = caught({"preset": "paper"}, gap=1.0)
        assert not asked
        assert not found


@pytest.mark.slow
class TestUnsettled:
    """Scales settle in the second half: an earlier best epoch is told."""

    @pytest.mark.parametrize(("plan", "expected"), [({}, {4: 1, 5: 0, None: 0}), (ADAM, {4: 0})])
    def test_warning(self, fit, adata, plan, expected):
        model = fit("SCMEDAL_RE", adata, max_epochs=10, plan_kwargs=plan)
        for best_epoch, n in expected.items():
            model.best_epoch_ = best_epoch
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                model._warn_if_unsettled()
            assert len(found) == n, best_epoch
            assert all("lies in the first half" in str(w.message) for w in found)
