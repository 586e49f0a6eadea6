"""Solution for known variances, against the model of all groups at once in dense matrices."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scmedal_tools._gene_model import (
    MixedEquations,
    restricted_likelihoods,
    state_correlation,
)
from scmedal_tools._gene_model._equations import VARIANCE_RATIOS, VARIANCES, covariance_of

PROFILES = torch.tensor([[0.0], [1.0], [3.0]])
NONE = VARIANCE_RATIOS[0]
CHOSEN = [(NONE, NONE, 0), (0.064, NONE, 0), (NONE, 0.256, 0), (0.256, 0.064, 1), (1, 1, 1)]


def test_correlation_falls_with_the_distance():
    """The mean squared distance to the nearest is 2, of which the reach is twice."""
    expected = np.exp(-np.square(PROFILES.numpy() - PROFILES.numpy().T) / 8)
    np.testing.assert_allclose(state_correlation(PROFILES), expected, rtol=1e-6)


@pytest.mark.parametrize("profiles", [torch.ones(1, 4), torch.ones(3, 4)])
def test_states_that_cannot_be_told_apart_are_alike(profiles):
    assert state_correlation(profiles).eq(1).all()


def test_a_state_without_cells_does_not_count():
    """It is as the average of the others, and their correlations are as without it."""
    unknown = torch.full_like(PROFILES[:1], torch.nan)
    found = state_correlation(torch.cat([PROFILES, unknown]))
    average = PROFILES.mean(0, keepdim=True)
    n = len(PROFILES)
    np.testing.assert_allclose(found[:n, :n], state_correlation(PROFILES))
    scale = torch.cdist(PROFILES[:1], PROFILES[1:2]).square() / -found[0, 1].log()
    expected = torch.exp(-torch.cdist(average, PROFILES).square() / scale)[0]
    np.testing.assert_allclose(found[n, :n], expected, rtol=1e-5)


@pytest.fixture(params=CHOSEN, ids=str)
def covariance(request):
    return covariance_of(VARIANCES.index(request.param), state_correlation(PROFILES))


@pytest.fixture
def data(draw_cells, groups_of):
    """Sizes and means of groups; one group and one batch have no cells."""
    residuals, batch, state, _ = draw_cells(1, [0.4], [0.3], n_cells=150)
    keep = ~((batch == 2) & (state == 1)) & (batch != 5)
    sizes = groups_of(residuals[keep], batch[keep], state[keep]).sizes
    means = np.where(sizes > 0, np.random.default_rng(0).normal(size=sizes.shape), 0.0)
    return sizes, means


@pytest.fixture
def solved(data, covariance, solve_densely):
    """Our equations, group means, and the dense solution."""
    sizes, means = data
    equations = MixedEquations(torch.from_numpy(sizes), covariance)
    dense = solve_densely(sizes, means, covariance.numpy())
    return equations, torch.from_numpy(means)[:, :, None], dense


def blocks(covariance):
    """Parts of a covariance that are of one batch, batches x states x states."""
    return np.stack([covariance[i : i + 3, i : i + 3] for i in range(0, len(covariance), 3)])


@pytest.mark.parametrize("variances", CHOSEN, ids=str)
def test_covariance_of_what_states_share_and_of_what_they_do_not(variances):
    of_batch, of_state, correlated = variances
    correlation = state_correlation(PROFILES)
    ours = covariance_of(VARIANCES.index(variances), correlation)
    expected = of_batch + of_state * (correlation.numpy() if correlated else np.eye(3))
    np.testing.assert_allclose(ours, expected)


def test_restricted_likelihoods(data, solve_densely):
    sizes, means = data
    covariances = [
        covariance_of(VARIANCES.index(variances), state_correlation(PROFILES))
        for variances in CHOSEN
    ]
    equations = [MixedEquations(torch.from_numpy(sizes), covariance) for covariance in covariances]
    of_genes = np.stack([means, 2 * means, means - 1], axis=2)
    expected = [
        [solve_densely(sizes, y, covariance.numpy()).evidence for covariance in covariances]
        for y in np.moveaxis(of_genes, 2, 0)
    ]
    ours = restricted_likelihoods(equations, torch.from_numpy(of_genes))
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_likelihood_given_the_fixed_effects(solved, data):
    equations, means, dense = solved
    fixed = np.array([0.3, -0.2, 0.1])
    sizes = data[0]
    seen = np.argwhere(sizes > 0)
    rest = (data[1] - fixed)[tuple(seen.T)]
    logs = np.linalg.slogdet(dense.inverse)[1] - np.log(sizes[tuple(seen.T)]).sum()
    expected = 0.5 * (logs - rest @ dense.inverse @ rest)
    ours = equations.log_likelihood(means, torch.from_numpy(fixed)[:, None])
    assert ours[0].item() == pytest.approx(expected, rel=1e-6)


def test_means(solved):
    equations, means, dense = solved
    fixed = equations.fixed(means)
    np.testing.assert_allclose(fixed[:, 0], dense.fixed, atol=1e-8)
    np.testing.assert_allclose(equations.effects(means, fixed).ravel(), dense.loc, atol=1e-8)


def test_covariance_given_the_fixed_effects_and_with_theirs(solved):
    equations, _, dense = solved
    ours = equations.given_fixed, equations.covariance_of_effects
    expected = dense.given_fixed, dense.covariance
    for covariance, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(covariance, blocks(other), atol=1e-8)


def test_fixed_effects_of_the_first_batches_alone(data, covariance, solve_densely):
    sizes, means = data
    equations = MixedEquations(torch.from_numpy(sizes), covariance, n_fitted=6)
    ours = equations.fixed(torch.from_numpy(means)[:, :, None])[:, 0]
    first = solve_densely(sizes[:6], means[:6], covariance.numpy())
    np.testing.assert_allclose(ours, first.fixed, atol=1e-8)
    everything = solve_densely(sizes, means, covariance.numpy())
    assert np.abs(ours.numpy() - everything.fixed).max() > 0.01


def test_a_state_without_cells_stays_at_zero():
    sizes = torch.tensor([[4.0, 0.0], [6.0, 0.0]]).double()
    equations = MixedEquations(sizes, torch.ones(2, 2).double())
    means = torch.tensor([[1.0, 0.0], [2.0, 0.0]]).double()[:, :, None]
    fixed = equations.fixed(means)
    assert fixed[0, 0] > 1
    assert fixed[1, 0] == 0


def test_draws_have_the_same_moments(solved):
    equations, means, dense = solved
    generator, many = torch.Generator().manual_seed(0), means.repeat(1, 1, 20_000)
    fixed = equations.draw_fixed(many, generator)
    draws = equations.draw_effects(many, fixed, generator).reshape(-1, 20_000).numpy()
    largest = dense.covariance.diagonal().max()
    tolerance = 0.03 * max(largest, 1e-9) ** 0.5
    np.testing.assert_allclose(draws.mean(1), dense.loc, atol=tolerance)
    np.testing.assert_allclose(np.cov(draws), dense.covariance, atol=0.04 * largest + 1e-12)


def test_is_the_mixed_model_of_lme4():
    """At its variances, with empty groups and a batch without cells: see tests/lme4/fit.R."""
    fits = json.loads((Path(__file__).parents[1] / "lme4" / "fits.json").read_text())["crossed"]
    j = np.arange(200)
    batch = j % 7
    state = (j // 7 + (j % 3) * batch) % 3
    x = state + 0.8 * sines(batch + 5, 1) + 0.6 * sines(batch + 7 * state + 5, 2)
    x = x + 0.9 * sines(j + 5, 3)
    kept = ~((batch == 2) & (state == 1))
    sizes, sums = np.zeros((2, 7, 3))
    np.add.at(sizes, (batch[kept], state[kept]), 1)
    np.add.at(sums, (batch[kept], state[kept]), x[kept])
    of_batch, of_state, residual = fits["variances"]
    means = torch.from_numpy(sums / np.maximum(sizes, 1) / np.sqrt(residual))[:, :, None]
    covariance = (of_batch + of_state * torch.eye(3, dtype=torch.double)) / residual
    equations = MixedEquations(torch.from_numpy(sizes), covariance)
    fixed = equations.fixed(means)
    root = np.sqrt(residual)
    np.testing.assert_allclose(root * fixed[:, 0], fits["coefficients"], rtol=1e-5)
    se = equations.fixed_covariance.diagonal().sqrt()
    np.testing.assert_allclose(root * se, fits["se"], rtol=1e-5)
    effects = equations.effects(means, fixed)[:, :, 0].reshape(-1)
    np.testing.assert_allclose(root * effects, fits["effects"], atol=1e-6)


def sines(i, k):
    return np.sin(91.7 * i + 13.1 * k * i**1.3)
