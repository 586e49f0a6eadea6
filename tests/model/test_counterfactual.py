"""Counterfactual expression: what is swapped, intervals of draws, and arguments."""

import numpy as np
import pandas as pd
import pytest
import torch

from scmedal_tools.model import _counterfactual
from scmedal_tools.model._counterfactual import summarise

from .swaps import DONORS, SWAPS, close


def codes(model):
    return model.batch_names.get_indexer(model.adata.obs["donor"])


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
