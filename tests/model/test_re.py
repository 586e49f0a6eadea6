"""Random effects: counterfactuals, draws, and whether the effects are alive."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scvi
import torch

from scmedal_tools.model import _counterfactual
from scmedal_tools.model._counterfactual import summarise

SWAPS = ["content", "decoder", "encoder_decoder"]
DONORS = ["donor_01", "donor_02", "donor_03", "donor_04"]


ADAM = {"effects_optimizer": "adam"}


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def codes(model):
    return model.batch_names.get_indexer(model.adata.obs["donor"])


def squared_error(model, reconstruction, rows=slice(None)):
    """Sum over cells and genes of the squared distance to what was measured."""
    return np.square(model.adata.X.toarray()[rows] - reconstruction).sum(dtype=float)


def assert_are_cells(minibatches, model, rows):
    read = torch.cat([tensors["X"] for tensors in minibatches])
    np.testing.assert_array_equal(read, model.adata.X.toarray()[np.sort(rows)])


@pytest.fixture(scope="module")
def paper(fit, cells):
    return fit("SCMEDAL_RE", cells.copy(), model={"preset": "paper"})


@pytest.fixture
def without_effects(re):
    """The model with every random effect at its prior mean."""
    tables = (*re.module.effect_tables.values(), *re.module.gene_effects.factors)
    means = [table.loc.data for table in tables]
    means += [table.correction for table in re.module.gene_effects.factors]
    before = [mean.clone() for mean in means]
    for mean in means:
        mean.zero_()
    yield re
    for mean, value in zip(means, before, strict=True):
        mean.copy_(value)


class TestCounterfactual:
    @pytest.mark.parametrize("swap", SWAPS)
    def test_own_batch_gives_the_reconstruction(self, re, swap):
        for donor in DONORS:
            own = re.adata.obs["donor"] == donor
            ours = re.get_counterfactual_expression(indices=own, transform_batch=donor, swap=swap)
            pd.testing.assert_frame_equal(ours, re.get_reconstruction(indices=own))

    @pytest.mark.parametrize("swap", SWAPS)
    def test_targets_differ(self, re, swap):
        first, second = (
            re.get_counterfactual_expression(transform_batch=d, swap=swap, return_numpy=True)
            for d in DONORS[:2]
        )
        assert np.abs(first - second).max(axis=1).min() > 1e-3

    def test_swapping_all_equals_cells_recorded_in_the_other_batch(self, paper, fresh):
        """With a network alone; effects on genes know a cell's own batch by its content."""
        ours = paper.get_counterfactual_expression(
            fresh, transform_batch="donor_03", swap="encoder_decoder"
        )
        fresh = fresh.copy()
        fresh.obs["donor"] = "donor_03"
        close(ours, paper.get_reconstruction(fresh))

    def test_a_target_takes_one_pass_of_the_decoder(self, re, monkeypatch):
        """And the cells one of the encoder, and one of the decoder without effects, for all."""
        monkeypatch.setattr(_counterfactual, "warn_of_extrapolation", lambda *_: None)
        rows = {"latent": [], "output": []}
        hooks = [
            getattr(re.module, name).register_forward_hook(
                lambda *args, found=found: found.append(args[2].shape[:-1].numel())
            )
            for name, found in rows.items()
        ]
        inputs = {"indices": np.arange(60), "return_numpy": True, "batch_size": 60}
        one, three = (
            re.get_counterfactual_expression(transform_batch=targets, **inputs)
            for targets in (DONORS[:1], DONORS[:3])
        )
        for hook in hooks:
            hook.remove()
        assert rows == {"latent": [60, 60], "output": [60, 60, 60, 180]}
        close(one[DONORS[0]], three[DONORS[0]])

    def test_decoder_swap_holds_the_latent_and_content_swap_the_content(self, re):
        module, target = re.module, torch.full((240,), 2)
        x, own = torch.as_tensor(re.adata.X.toarray()), torch.as_tensor(codes(re))
        for swap in ("decoder", "content"):
            with torch.no_grad():
                # The network's own latents: those returned have other axes.
                inferred = module.inference(x, own)
                z = inferred["z"]
                if swap == "content":
                    z = module.express(inferred["content"], target, sample=False)
                swapped = module.predict(z, target, inferred["content"], own)
                expected = module.scaler.inverse(swapped)
            ours = re.get_counterfactual_expression(
                transform_batch="donor_03", swap=swap, return_numpy=True
            )
            close(ours, expected)

    @pytest.mark.parametrize("swap", SWAPS)
    def test_without_effects_the_target_does_not_matter(self, without_effects, swap):
        results = without_effects.get_counterfactual_expression(transform_batch=DONORS, swap=swap)
        for table in results.values():
            pd.testing.assert_frame_equal(table, results["donor_01"])

    @pytest.mark.parametrize("swap", SWAPS)
    def test_the_population_zeroes_what_the_swap_reaches(self, re, swap):
        module = re.module
        reached = {"content": ("bott", "dec", "out"), "decoder": ("dec", "out")}.get(swap, ("",))
        tables = [t for k, t in module.effect_tables.items() if k.startswith(reached)]
        means = [table.loc.data for table in tables]
        means.append(module.gene_effects.factors[0].loc)
        means.append(module.gene_effects.factors[0].correction)
        ours = re.get_counterfactual_expression(transform_batch="population", swap=swap)
        before = [mean.clone() for mean in means]
        for mean in means:
            mean.zero_()
        expected = re.get_counterfactual_expression(transform_batch="donor_03", swap=swap)
        for mean, value in zip(means, before, strict=True):
            mean.copy_(value)
        close(ours, expected)
        swapped = re.get_counterfactual_expression(transform_batch="donor_03", swap=swap)
        assert np.abs(ours - swapped).max(axis=None) > 1e-2

    def test_a_batch_may_be_called_population(self, fit, adata):
        adata.obs["donor"] = adata.obs["donor"].cat.rename_categories({"donor_02": "population"})
        model = fit("SCMEDAL_RE", adata)
        own = (adata.obs["donor"] == "population").to_numpy()
        swapped = model.get_counterfactual_expression(indices=own, transform_batch="population")
        close(swapped, model.get_reconstruction(indices=own))

    @pytest.mark.slow
    def test_intervals_are_of_the_draws(self, re):
        options = {"transform_batch": ["donor_02", "population"], "indices": [3, 8, 100]}
        draws = re.get_counterfactual_expression(
            **options, n_samples=12, return_mean=False, return_numpy=True
        )
        results = re.get_counterfactual_expression(**options, n_samples=12, interval=0.6)
        assert list(results) == ["donor_02", "population"]
        for target, summary in results.items():
            assert list(summary.columns.unique(0)) == ["mean", "sd", "lower", "upper"]
            assert list(summary["sd"].columns) == list(re.gene_names)
            of_target = draws[target]
            assert of_target.shape == (12, 3, re.adata.n_vars)
            close(summary["mean"], of_target.mean(0))
            close(summary["sd"], of_target.std(0, ddof=1))
            close(summary["lower"], np.quantile(of_target, 0.2, axis=0, method="weibull"))
            close(summary["upper"], np.quantile(of_target, 0.8, axis=0, method="weibull"))
            assert list(summary["mean"].index) == list(re.adata.obs_names[[3, 8, 100]])
        assert results["donor_02"]["sd"].to_numpy().mean() > 1e-3

    def test_several_targets(self, re):
        targets = ["donor_04", "donor_01"]
        results = re.get_counterfactual_expression(transform_batch=targets)
        assert list(results) == targets
        for donor, table in results.items():
            single = re.get_counterfactual_expression(transform_batch=donor)
            pd.testing.assert_frame_equal(table, single)
        mean = re.get_counterfactual_expression(transform_batch=targets, aggregate="mean")
        pd.testing.assert_frame_equal(mean, (results["donor_04"] + results["donor_01"]) / 2)

    def test_a_list_of_one_gives_a_dictionary(self, re):
        results = re.get_counterfactual_expression(transform_batch=["donor_02"])
        assert list(results) == ["donor_02"]

    def test_some_genes_and_cells(self, re):
        genes = list(re.adata.var_names[[9, 1]])
        whole = re.get_counterfactual_expression(transform_batch="donor_02")
        part = re.get_counterfactual_expression(
            indices=[8, 2], transform_batch="donor_02", gene_list=genes
        )
        pd.testing.assert_frame_equal(part, whole.iloc[[8, 2]][genes], rtol=1e-4)

    def test_arrays(self, re):
        table = re.get_counterfactual_expression(transform_batch="donor_02")
        values = re.get_counterfactual_expression(transform_batch="donor_02", return_numpy=True)
        assert isinstance(values, np.ndarray)
        np.testing.assert_array_equal(table, values)

    def test_dataloader_serves_all_targets(self, re):
        minibatches = iter(list(re._make_data_loader(re.adata, batch_size=100)))
        ours = re.get_counterfactual_expression(transform_batch=DONORS, dataloader=minibatches)
        for donor, expected in re.get_counterfactual_expression(transform_batch=DONORS).items():
            close(ours[donor], expected)

    @pytest.mark.slow
    def test_batches_named_by_numbers(self, fit, adata):
        adata.obs["plate"] = adata.obs["donor"].cat.codes.to_numpy() * 10
        model = fit("SCMEDAL_RE", adata, {"batch_key": "plate"})
        by_name = model.get_counterfactual_expression(transform_batch=10)
        own = (adata.obs["plate"] == 10).to_numpy()
        reconstruction = model.get_reconstruction(indices=own)
        pd.testing.assert_frame_equal(by_name[own], reconstruction, atol=1e-5)
        assert list(model.get_counterfactual_expression(transform_batch=[0, 30])) == [0, 30]


@pytest.mark.parametrize("n_samples", [19, 50, 400])
def test_an_interval_holds_its_share_of_further_draws(n_samples):
    draws = torch.rand(n_samples, 20_000, generator=torch.Generator().manual_seed(0))
    _, _, lower, upper = summarise(draws, 0.9)
    # Of a uniform distribution the width is the probability.
    assert float((upper - lower).mean()) == pytest.approx(0.9, abs=0.002)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"transform_batch": "donor_9"},
                "'donor_9' is not a level of 'donor'.*donor_01, donor_02",
            ),
            ({"transform_batch": ["donor_01", "x", "y"]}, "'x' is not a level of 'donor'"),
            ({"transform_batch": "x"}, "or 'population', without effects"),
            ({"transform_batch": "donor_01", "interval": 0.9}, "pass n_samples as well"),
            (
                {"transform_batch": "donor_01", "interval": 90, "n_samples": 5},
                "interval=90 is outside its range",
            ),
            (
                {"transform_batch": "donor_01", "interval": 0.9, "n_samples": 18},
                "n_samples=18 is too few for interval=0.9, which needs at least 19 draws",
            ),
            (
                {
                    "transform_batch": "donor_01",
                    "interval": 0.9,
                    "n_samples": 19,
                    "return_mean": False,
                },
                "leave out return_mean",
            ),
            ({}, "transform_batch names no batch"),
            ({"transform_batch": "donor_01", "swap": "all"}, "swap='all' is not one of"),
        ],
    )
    def test_what_is_not_there(self, re, arguments, message):
        with pytest.raises(ValueError, match=message):
            re.get_counterfactual_expression(**arguments)

    def test_papers_preset_swaps_encoder_and_decoder(self, paper):
        by_default = paper.get_counterfactual_expression(transform_batch="donor_01")
        named = paper.get_counterfactual_expression(
            transform_batch="donor_01", swap="encoder_decoder"
        )
        pd.testing.assert_frame_equal(by_default, named)

    def test_papers_preset_has_no_content(self, paper):
        with pytest.raises(ValueError, match=r"swap='content' needs a content code.*preset="):
            paper.get_counterfactual_expression(transform_batch="donor_01", swap="content")
        np.testing.assert_array_equal(
            paper.get_latent_representation(kind="content"), paper.get_latent_representation()
        )

    def test_default_swaps_what_follows_the_content(self, re):
        by_default, named, other = (
            re.get_counterfactual_expression(transform_batch="donor_01", swap=swap)
            for swap in (None, "content", "decoder")
        )
        pd.testing.assert_frame_equal(by_default, named)
        assert not np.allclose(by_default, other)

    def test_content_is_not_the_latent(self, re):
        content = re.get_latent_representation(kind="content")
        assert not np.allclose(content, re.get_latent_representation())


class TestDraws:
    @pytest.fixture
    def verb(self, re):
        def verb(n_samples, **kwargs):
            return re.get_counterfactual_expression(
                transform_batch="donor_02", n_samples=n_samples, **kwargs
            )

        return verb

    def test_shapes(self, re, verb):
        assert re.get_latent_representation(n_samples=3).shape == (3, 240, 4)
        for ours in (verb, re.get_reconstruction):
            assert ours(n_samples=3, return_mean=False, return_numpy=True).shape == (3, 240, 60)
            assert isinstance(ours(n_samples=3), pd.DataFrame)

    def test_mean_of_the_draws(self, verb):
        close(verb(3), verb(3, return_mean=False, return_numpy=True).mean(axis=0))

    def test_draws_differ_from_each_other_and_repeat(self, verb):
        draws = verb(2, return_mean=False, return_numpy=True)
        assert not np.allclose(draws[0], draws[1])
        np.testing.assert_array_equal(draws, verb(2, return_mean=False, return_numpy=True))
        close(verb(3, return_mean=False, return_numpy=True)[:2], draws)

    def test_seed_decides(self, verb, monkeypatch):
        before = verb(1)
        monkeypatch.setattr(scvi.settings, "seed", 5)
        assert not np.allclose(verb(1), before)

    @pytest.mark.parametrize("return_mean", [True, False])
    def test_one_draw_serves_all_minibatches(self, verb, return_mean):
        one, many = (
            verb(2, return_mean=return_mean, return_numpy=not return_mean, batch_size=n)
            for n in (240, 13)
        )
        close(many, one)

    def test_the_same_draw_serves_all_targets(self, re):
        own = re.adata.obs["donor"] == "donor_02"
        options = {"indices": own, "n_samples": 2, "return_mean": False, "return_numpy": True}
        results = re.get_counterfactual_expression(transform_batch=DONORS, **options)
        np.testing.assert_array_equal(results["donor_02"], re.get_reconstruction(**options))

    def test_spread_is_that_of_the_posterior(self, without_effects):
        tables = without_effects.module.effect_tables.values()
        before = [table.rho.detach().clone() for table in tables]
        for table in tables:
            table.rho.data.fill_(-50.0)
        draws = without_effects.get_latent_representation(n_samples=2)
        for table, rho in zip(tables, before, strict=True):
            table.rho.data.copy_(rho)
        wide = without_effects.get_latent_representation(n_samples=2)
        narrow, wide = (np.abs(first - second).max() for first, second in (draws, wide))
        assert narrow < 1e-2
        assert wide > 100 * narrow


def test_effects_are_off_after_draws(re):
    expected = re.get_latent_representation()
    re.get_latent_representation(n_samples=2)
    np.testing.assert_array_equal(re.get_latent_representation(), expected)


class TestKeepResidual:
    @pytest.fixture
    def verb(self, re):
        def verb(target, **kwargs):
            return re.get_counterfactual_expression(
                transform_batch=target, keep_residual=True, **kwargs
            )

        return verb

    @pytest.mark.parametrize("swap", SWAPS)
    def test_own_batch_gives_the_measured_cell(self, re, verb, swap):
        for donor in DONORS:
            own = np.flatnonzero(re.adata.obs["donor"] == donor)
            ours = verb(donor, indices=own, swap=swap)
            np.testing.assert_allclose(ours, re.adata.X[own].toarray(), atol=1e-5)
            assert list(ours.index) == list(re.adata.obs_names[own])

    @pytest.mark.parametrize("swap", SWAPS)
    def test_adds_the_same_to_all_targets(self, re, verb, swap):
        kept, plain = (
            re.get_counterfactual_expression(
                transform_batch=DONORS, swap=swap, keep_residual=keep, return_numpy=True
            )
            for keep in (True, False)
        )
        missed = re.adata.X.toarray() - re.get_reconstruction(return_numpy=True)
        assert np.abs(missed).max() > 0.1
        for donor in DONORS:
            np.testing.assert_allclose(kept[donor] - plain[donor], missed, atol=1e-5)
            difference = kept[donor] - kept["donor_01"]
            np.testing.assert_allclose(
                difference, plain[donor] - plain["donor_01"], rtol=1e-4, atol=1e-5
            )

    def test_some_genes_and_cells(self, re, verb):
        genes = list(re.adata.var_names[[9, 1]])
        part = verb("donor_02", indices=[8, 2], gene_list=genes)
        expected = verb("donor_02").iloc[[8, 2]][genes]
        pd.testing.assert_frame_equal(part, expected, rtol=1e-4, atol=1e-5)

    def test_draws(self, re, verb):
        options = {"n_samples": 3, "return_mean": False, "return_numpy": True}
        own = np.flatnonzero(re.adata.obs["donor"] == "donor_02")
        ours = verb("donor_02", indices=own, **options)
        assert ours.shape == (3, own.size, 60)
        measured = re.adata.X[own].toarray()
        np.testing.assert_allclose(ours, np.stack([measured] * 3), atol=1e-5)
        # Each draw keeps what that draw misses.
        missed = re.adata.X.toarray() - re.get_reconstruction(**options)
        plain = re.get_counterfactual_expression(transform_batch="donor_03", **options)
        close(verb("donor_03", **options), plain + missed)
        close(verb("donor_03", n_samples=3), (plain + missed).mean(0))

    def test_other_cells_aggregate_and_dataloader(self, re, verb, fresh):
        whole = verb(DONORS)
        close(verb("donor_04", adata=fresh), whole["donor_04"].iloc[::3])
        close(verb(DONORS, aggregate="mean"), sum(whole.values()) / 4)
        minibatches = re._make_data_loader(re.adata, batch_size=50)
        close(verb("donor_04", dataloader=minibatches), whole["donor_04"])

    def test_papers_preset(self, paper):
        own = np.flatnonzero(paper.adata.obs["donor"] == "donor_02")
        ours = paper.get_counterfactual_expression(
            indices=own, transform_batch="donor_02", keep_residual=True
        )
        np.testing.assert_allclose(ours, paper.adata.X[own].toarray(), atol=1e-5)


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
