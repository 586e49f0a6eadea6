"""Random effects: counterfactuals and draws."""

import numpy as np
import pandas as pd
import pytest
import scvi
import torch

SWAPS = ["content", "decoder", "encoder_decoder"]
DONORS = ["donor_01", "donor_02", "donor_03", "donor_04"]


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def paper(fit, cells):
    return fit("SCMEDAL_RE", cells.copy(), model={"preset": "paper"})


@pytest.fixture
def without_effects(re):
    """The model with every random effect at its prior mean."""
    tables = re.module.effect_tables.values()
    before = [table.loc.detach().clone() for table in tables]
    for table in tables:
        table.loc.data.zero_()
    yield re
    for table, loc in zip(tables, before, strict=True):
        table.loc.data.copy_(loc)


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

    def test_swapping_all_equals_cells_recorded_in_the_other_batch(self, re, fresh):
        ours = re.get_counterfactual_expression(
            fresh, transform_batch="donor_03", swap="encoder_decoder"
        )
        fresh = fresh.copy()
        fresh.obs["donor"] = "donor_03"
        close(ours, re.get_reconstruction(fresh))

    def test_decoder_swap_holds_the_latent_and_content_swap_the_content(self, re):
        module, target = re.module, torch.full((240,), 2)
        for swap, kind in [("decoder", "latent"), ("content", "content")]:
            held = torch.as_tensor(re.get_latent_representation(kind=kind))
            with torch.no_grad():
                z = module.express(held, target, sample=False) if swap == "content" else held
                expected = module.scaler.inverse(module.generative(z, target)["x_hat"])
            ours = re.get_counterfactual_expression(
                transform_batch="donor_03", swap=swap, return_numpy=True
            )
            close(ours, expected)

    @pytest.mark.parametrize("swap", SWAPS)
    def test_without_effects_the_target_does_not_matter(self, without_effects, swap):
        results = without_effects.get_counterfactual_expression(transform_batch=DONORS, swap=swap)
        for table in results.values():
            pd.testing.assert_frame_equal(table, results["donor_01"])

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

    def test_batches_named_by_numbers(self, fit, adata):
        adata.obs["plate"] = adata.obs["donor"].cat.codes.to_numpy() * 10
        model = fit("SCMEDAL_RE", adata, {"batch_key": "plate"})
        by_name = model.get_counterfactual_expression(transform_batch=10)
        own = (adata.obs["plate"] == 10).to_numpy()
        pd.testing.assert_frame_equal(by_name[own], model.get_reconstruction(indices=own))
        assert list(model.get_counterfactual_expression(transform_batch=[0, 30])) == [0, 30]


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"transform_batch": "donor_9"}, r"\['donor_9'\] are not batches.*donor_01, donor_02"),
            ({"transform_batch": ["donor_01", "x", "y"]}, r"\['x', 'y'\] are not batches"),
            ({}, "transform_batch: it names no batch"),
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
            assert ours(n_samples=3, return_mean=False).shape == (3, 240, 60)
            assert isinstance(ours(n_samples=3), pd.DataFrame)

    def test_mean_of_the_draws(self, verb):
        close(verb(3), verb(3, return_mean=False).mean(axis=0))

    def test_draws_differ_from_each_other_and_repeat(self, verb):
        draws = verb(2, return_mean=False)
        assert not np.allclose(draws[0], draws[1])
        np.testing.assert_array_equal(draws, verb(2, return_mean=False))
        close(verb(3, return_mean=False)[:2], draws)

    def test_seed_decides(self, verb, monkeypatch):
        before = verb(1)
        monkeypatch.setattr(scvi.settings, "seed", 5)
        assert not np.allclose(verb(1), before)

    @pytest.mark.parametrize("return_mean", [True, False])
    def test_one_draw_serves_all_minibatches(self, verb, return_mean):
        one, many = (verb(2, return_mean=return_mean, batch_size=n) for n in (240, 13))
        close(many, one)

    def test_the_same_draw_serves_all_targets(self, re):
        own = re.adata.obs["donor"] == "donor_02"
        options = {"indices": own, "n_samples": 2, "return_mean": False}
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
        np.testing.assert_allclose(draws[0], draws[1], atol=1e-3)
        wide = without_effects.get_latent_representation(n_samples=2)
        assert np.abs(wide[0] - wide[1]).max() > 1e-2


def test_effects_are_off_after_draws(re):
    expected = re.get_latent_representation()
    re.get_latent_representation(n_samples=2)
    np.testing.assert_array_equal(re.get_latent_representation(), expected)
