"""Posterior draws: that they repeat, how many are held, and what is made of them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scvi
import torch

from scmedal_tools._gene_model import GeneEffectsDraw
from scmedal_tools.model import _draws
from scmedal_tools.model._draws import Draws

from .swaps import DONORS, close

N_SAMPLES = 5
BYTES = 4 * (10 + 2 + 6 + 30)


class Source:
    """Draws of one table and of effects on genes, which are counted."""

    def __init__(self):
        self.n_made = 0

    def __call__(self, generator):
        self.n_made += 1
        sizes = (10, 2, 6, 30)
        table, follows, fixed, effects = (torch.rand(n, generator=generator) for n in sizes)
        return {"table": table, "gene_effects": GeneEffectsDraw(follows, fixed, [effects])}


def values(draws):
    return [float(draw["table"][0]) for draw in draws]


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def expected():
    generator, source = torch.Generator().manual_seed(7), Source()
    return values(source(generator) for _ in range(N_SAMPLES))


def test_are_made_one_by_one(source, expected):
    draws = Draws(source, 7, N_SAMPLES)
    assert float(next(iter(draws))["table"][0]) == expected[0]
    assert source.n_made == 1
    assert values(draws) == values(draws) == expected
    assert source.n_made == 1 + 2 * N_SAMPLES


@pytest.mark.parametrize(("limit", "n_held"), [(1, 1), (2 * BYTES, 2), (100 * BYTES, N_SAMPLES)])
def test_those_that_fit_are_held(source, expected, monkeypatch, limit, n_held):
    monkeypatch.setattr(_draws, "MAX_BYTES", limit)
    draws = Draws(source, 7, N_SAMPLES).hold()
    assert source.n_made == n_held
    assert values(draws) == values(draws) == expected
    assert source.n_made == n_held + 2 * (N_SAMPLES - n_held)


def test_a_limit_changes_no_result(re, monkeypatch):
    options = {"n_samples": 3, "return_mean": False, "return_numpy": True, "batch_size": 100}
    before = re.get_reconstruction(**options)
    monkeypatch.setattr(_draws, "MAX_BYTES", 1)
    np.testing.assert_array_equal(re.get_reconstruction(**options), before)


def test_another_thread_does_not_see_them(re):
    """In every draw, before the layer of the genes, it asks for the posterior means."""
    options = {"indices": np.arange(0, 240, 8), "return_numpy": True}
    plain = re.get_reconstruction(**options)
    drawing, beside = threading.get_ident(), []

    def ask(*_):
        if threading.get_ident() == drawing:
            beside.append(pool.submit(re.get_reconstruction, **options).result())

    with ThreadPoolExecutor(1) as pool:
        hook = re.module.output.register_forward_pre_hook(ask)
        try:
            drawn = re.get_reconstruction(n_samples=2, **options)
        finally:
            hook.remove()
    assert len(beside) >= 2
    for values_beside in beside:
        np.testing.assert_array_equal(values_beside, plain)
    assert np.abs(drawn - plain).max() > 1e-3


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
