"""The mixed model of single genes, against statsmodels, dense matrices and known effects."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
import torch
from scipy.stats import norm

from scmedal_tools._gene_model import (
    NETWORK_SHARE,
    GroupSums,
    MixedModel,
    _equations,
    backfitting_order,
    fit_crossed_models,
    fit_mixed_model,
    probability_of_following,
    state_correlation,
)
from scmedal_tools._gene_model._equations import VARIANCES, MixedEquations, covariance_of

N_BATCH, N_STATES = 8, 3
UNLIKE = torch.eye(N_STATES).double()


def test_a_batch_takes_after_its_like_states(draw_cells, groups_of):
    """Effects are the same in the first two states; a batch without cells of one has them too."""
    residuals, batch, state, effects = draw_cells(6, np.zeros(200), 0.6, n_cells=8_000)
    residuals -= effects[batch, state]
    effects[:, 1] = effects[:, 0]
    residuals += effects[batch, state]
    keep = (batch != 3) | (state != 1)
    groups = groups_of(residuals[keep], batch[keep], state[keep])
    correlation = torch.tensor([[1, 0.95, 0], [0.95, 1, 0], [0, 0, 1.0]], dtype=torch.double)
    fitted = fit_mixed_model(groups, correlation)
    truth = effects[3, 1] - effects[:, 1].mean(0)
    assert np.corrcoef(fitted.loc[3, 1], truth)[0, 1] > 0.9
    unaware = fit_mixed_model(groups, UNLIKE)
    assert np.corrcoef(unaware.loc[3, 1], truth)[0, 1] < 0.85


def test_variances_of_genes_follow_statsmodels(draw_cells, groups_of):
    batch_sd = np.array([0.0, 0.2, 0.5, 0.9])
    residuals, batch, state, _ = draw_cells(2, np.repeat(batch_sd, 30), 0.0)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    for gene in (35, 65, 95):
        table = pd.DataFrame({"y": residuals[:, gene], "batch": batch, "state": state})
        model = smf.mixedlm("y ~ C(state)", table, groups="batch").fit(reml=True)
        expected = np.array([model.random_effects[k].iloc[0] for k in range(N_BATCH)])
        np.testing.assert_allclose(fitted.loc[:, :, gene].mean(1), expected, atol=0.06)
    size = np.sqrt(np.square(fitted.loc).mean((0, 1))).reshape(4, 30).mean(1)
    assert size[0] < 0.01
    assert np.all(np.diff(size) > 0.1)


def test_genes_without_effect_stay_at_zero_and_the_others_are_not_shrunk_away(
    draw_cells, groups_of
):
    sd = np.r_[np.zeros(700), np.full(300, 0.5)]
    residuals, batch, state, effects = draw_cells(3, sd, 0.6 * sd)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    assert np.abs(fitted.loc[:, :, :700]).mean() < 0.005
    centred = effects - effects.mean(0)
    with_effect = fitted.loc[:, :, 700:].ravel()
    truth = centred[:, :, 700:].ravel()
    slope, _ = np.polyfit(with_effect, truth, 1)
    assert np.corrcoef(with_effect, truth)[0, 1] > 0.97
    assert slope == pytest.approx(1, abs=0.05)


def test_without_any_effect_everything_is_off(draw_cells, groups_of):
    residuals, batch, state, _ = draw_cells(4, np.zeros(300), 0.0)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    # All genes have the smallest variances, which leave 7% of the noise of a batch's mean.
    groups = groups_of(residuals, batch, state)
    smallest = MixedEquations(torch.from_numpy(groups.sizes), covariance_of(0, UNLIKE))
    means = torch.from_numpy(groups.means / fitted.scale)
    least = fitted.scale * smallest.effects(means, smallest.fixed(means)).numpy()
    assert np.abs(fitted.loc - least).mean() < 1e-4
    noise = np.sqrt(1 / groups.sizes.mean() / N_STATES)
    assert np.abs(least).mean() < 0.1 * noise
    np.testing.assert_allclose(fitted.fixed.mean(1), [0.5, 0, -0.5], atol=0.02)


def test_a_mixture_has_the_variance_of_its_parts(draw_cells, groups_of):
    """Half of the genes have effects; of a gene with little data either may be true."""
    residuals, batch, state, effects = draw_cells(5, np.repeat([0.0, 0.5], 500), 0.0, n_cells=60)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    errors = np.square(fitted.loc - effects).mean((0, 1))
    claimed = np.square(fitted.sd).mean((0, 1))
    for genes in np.array_split(np.argsort(claimed), 4)[1:]:
        assert errors[genes].mean() == pytest.approx(claimed[genes].mean(), rel=0.3)


def test_equals_dense_matrices(draw_cells, groups_of, solve_densely):
    """Probabilities and moments, with the mixture over all variances written out."""
    residuals, batch, state, _ = draw_cells(9, [0.4, 0.2, 0.0, 0.5], 0.2, n_cells=200)
    groups = groups_of(residuals, batch, state)
    similarity = state_correlation(torch.tensor([[0.0], [1.0], [3.0]]))
    scale = np.random.default_rng(0).uniform(0.8, 1.2, size=(N_STATES, 4))
    fitted = fit_mixed_model(groups, similarity, scale)
    np.testing.assert_array_equal(fitted.scale, scale)
    means = groups.means / scale
    solutions = [
        [
            solve_densely(
                groups.sizes,
                means[:, :, gene],
                of_batch + of_state * (similarity.numpy() if correlated else np.eye(3)),
            )
            for of_batch, of_state, correlated in VARIANCES
        ]
        for gene in range(4)
    ]
    evidence = np.array([[dense.evidence for dense in row] for row in solutions])
    posterior = expectation_maximisation(evidence)
    np.testing.assert_allclose(fitted.probabilities, posterior, atol=1e-6)
    for gene, (weights, row) in enumerate(zip(posterior, solutions, strict=True)):
        fixed = weights @ [dense.fixed for dense in row]
        np.testing.assert_allclose(fitted.fixed[:, gene], scale[:, gene] * fixed, atol=1e-4)
        locs = np.stack([dense.loc for dense in row])
        sums = locs + np.stack([np.tile(dense.fixed, N_BATCH) for dense in row])
        variances = np.stack([dense.covariance.diagonal() for dense in row])
        of_sums = np.stack([dense.of_sum.diagonal() for dense in row])
        sd = np.sqrt(weights @ (np.square(locs) + variances) - np.square(weights @ locs))
        sd_of_sum = np.sqrt(weights @ (np.square(sums) + of_sums) - np.square(weights @ sums))
        ours = fitted.loc, fitted.sd, fitted.sd_of_sum
        for table, values in zip(ours, (weights @ locs, sd, sd_of_sum), strict=True):
            theirs = scale[:, gene] * values.reshape(N_BATCH, N_STATES)
            np.testing.assert_allclose(table[:, :, gene], theirs, atol=1e-4)


def test_the_scale_is_the_noise_unless_it_is_given(draw_cells, groups_of):
    residuals, batch, state, _ = draw_cells(10, [0.4, 0.0], 0.2, n_cells=200)
    groups = groups_of(residuals, batch, state)
    found = fit_mixed_model(groups, UNLIKE)
    given = fit_mixed_model(groups, UNLIKE, np.sqrt(groups.noise()))
    np.testing.assert_array_equal(found.loc, given.loc)


def expectation_maximisation(log_likelihood):
    """Posterior over columns, by as many steps as in the fit."""
    likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
    frequencies = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    for _ in range(200):
        posterior = likelihood * frequencies
        posterior /= posterior.sum(1, keepdims=True)
        frequencies = posterior.mean(0)
    return posterior


class TestFollowing:
    """A network's guess: of the first 100 genes right, of the second wrong, else of nothing.

    A quarter of the cells are held back.
    """

    LEVELS = np.arange(N_BATCH)[:, None]

    @pytest.fixture(scope="class")
    def guessed(self, draw_cells, groups_of):
        """Fitted models, sums of what was held back, the guess, and the true effects."""
        residuals, batch, state, effects = draw_cells(7, np.repeat([0.5, 0.5, 0.0], 100), 0.0)
        rng = np.random.default_rng(8)
        guess = rng.normal(0, 1.0, size=effects.shape)
        guess[:, :, :100] = effects[:, :, :100] / NETWORK_SHARE
        guess[:, :, :100] += rng.normal(0, 0.1, size=(N_BATCH, N_STATES, 100))
        held_back = np.arange(len(batch)) % 4 == 0
        # No validation cells of one group.
        held_back &= (batch != 2) | (state != 1)
        train = groups_of(residuals[~held_back], batch[~held_back], state[~held_back])
        scale = np.sqrt(train.noise())
        alone, following = (
            fit_crossed_models(groups, self.LEVELS, (N_BATCH,), UNLIKE, scale)
            for groups in (train, train.without(NETWORK_SHARE * guess))
        )
        where = batch[held_back], state[held_back]
        sums = groups_of(residuals[held_back], *where), groups_of(guess[where], *where)
        return alone, following, *sums, guess, effects

    @pytest.fixture(scope="class")
    def follows(self, guessed):
        alone, following, held_back, of_network, *_ = guessed
        return probability_of_following(alone, following, self.LEVELS, held_back, of_network)

    def test_right_guesses_are_followed(self, follows):
        right, wrong, nothing = np.split(follows, 3)
        # The training cells show the effects by themselves, and correct a wrong guess, so that
        # validation cells add little.
        assert np.median(right) > 0.5
        assert np.median(wrong) < 0.2
        assert np.median(nothing) < 0.05

    def test_equals_predictive_likelihoods_group_by_group(self, guessed, follows):
        (alone,), (following,), held_back, of_network, *_ = guessed
        log_likelihood = np.zeros((300, 2))
        for batch, state in np.argwhere(held_back.sizes > 0):
            size = held_back.sizes[batch, state]
            guess = of_network.sums[batch, state] / size
            sd = np.hypot(alone.sd_of_sum[batch, state], alone.scale[state] / np.sqrt(size))
            for column, (model, share) in enumerate([(alone, 0.0), (following, 0.5)]):
                expected = model.fixed[state] + model.loc[batch, state] + share * guess
                mean = held_back.sums[batch, state] / size
                log_likelihood[:, column] += norm.logpdf(mean, expected, sd)
        expected = expectation_maximisation(log_likelihood)[:, 1]
        np.testing.assert_allclose(follows, expected, atol=1e-8)

    def test_of_several_factors_predictions_add_up(self):
        """Written out for two factors with made-up models."""
        rng = np.random.default_rng(0)
        levels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])

        def made_up():
            of_levels, of_states = (2, N_STATES, 6), (N_STATES, 6)
            loc, sd, of_sum = rng.uniform(0.2, 0.6, size=(3, *of_levels))
            fixed, scale = rng.uniform(0.5, 1.0, size=(2, *of_states))
            nothing = np.empty(0)
            parts = (nothing, scale, nothing, nothing, nothing, fixed, loc, sd, of_sum)
            return MixedModel(*parts)

        alone, following = [made_up(), made_up()], [made_up(), made_up()]
        held_back, guess = GroupSums(4, N_STATES, 6), GroupSums(4, N_STATES, 6)
        code, state = rng.integers(4, size=40), rng.integers(N_STATES, size=40)
        for groups in (held_back, guess):
            groups.add(rng.normal(1.2, 1, size=(40, 6)), code, state)
        log_likelihood = np.zeros((6, 2))
        for group, state in np.argwhere(held_back.sizes > 0):
            size, (first, second) = held_back.sizes[group, state], levels[group]
            variance = alone[0].sd_of_sum[first, state] ** 2 + alone[0].scale[state] ** 2 / size
            variance = variance + alone[1].sd_of_sum[second, state] ** 2
            for column, models in enumerate([alone, following]):
                expected = models[0].fixed[state] + models[0].loc[first, state]
                expected = expected + models[1].loc[second, state]
                expected = expected + column * NETWORK_SHARE * guess.means[group, state]
                mean = held_back.means[group, state]
                log_likelihood[:, column] += norm.logpdf(mean, expected, np.sqrt(variance))
        expected = expectation_maximisation(log_likelihood)[:, 1]
        ours = probability_of_following(alone, following, levels, held_back, guess)
        np.testing.assert_allclose(ours, expected, atol=1e-8)

    def test_none_without_validation_cells(self, guessed):
        alone, following, *_ = guessed
        nobody = GroupSums(N_BATCH, N_STATES, 300)
        follows = probability_of_following(alone, following, self.LEVELS, nobody, nobody)
        np.testing.assert_array_equal(follows, np.zeros(300))

    def test_genes_without_effects_get_none_from_it(self, guessed, follows):
        (alone,), (following,), _, _, guess, _ = guessed
        correction = following.loc - alone.loc + NETWORK_SHARE * guess
        total = alone.loc + follows * correction
        without = (slice(None), slice(None), slice(200, None))
        guessed_size = np.abs(NETWORK_SHARE * guess[without]).mean()
        assert np.abs(total[without]).mean() < 0.05 * guessed_size

    def test_following_is_closer_to_the_truth(self, guessed):
        """By as much as is claimed."""
        (alone,), (following,), _, _, guess, effects = guessed
        right, truth = slice(0, 100), effects[:, :, :100] - effects[:, :, :100].mean(0)
        total = following.loc[:, :, right] + NETWORK_SHARE * guess[:, :, right]
        total -= total.mean(0)
        errors = [np.square(x - truth).mean() for x in (total, alone.loc[:, :, right])]
        assert errors[0] < 0.7 * errors[1]
        claimed = np.square(following.sd[:, :, right]).mean()
        assert claimed < 0.7 * np.square(alone.sd[:, :, right]).mean()


class TestCrossed:
    @pytest.mark.slow
    def test_agree_with_statsmodels(self):
        """One gene with effects of both factors: best linear unbiased predictions, other route."""
        rng = np.random.default_rng(3)
        n = 3_000
        first, second = rng.integers(12, size=n), rng.integers(6, size=n)
        of_first, of_second = rng.normal(0, 0.6, 12), rng.normal(0, 0.4, 6)
        y = of_first[first] + of_second[second] + rng.normal(size=n)
        groups = GroupSums(72, 1, 60)
        code, state = first * 6 + second, np.zeros(n, int)
        # The same gene many times, as the prior over variances is learned from all genes.
        groups.add(np.repeat(y[:, None], 60, 1).astype(np.float32), code, state)
        levels = np.array([[k // 6, k % 6] for k in range(72)])
        scale = np.sqrt(groups.noise())
        alike = torch.ones(1, 1).double()
        models = fit_crossed_models(groups, levels, (12, 6), alike, scale)
        table = pd.DataFrame({"y": y, "first": first, "second": second, "all": 0})
        fitted = sm.MixedLM.from_formula(
            "y ~ 1",
            table,
            groups="all",
            vc_formula={"first": "0 + C(first)", "second": "0 + C(second)"},
        ).fit()
        blup = fitted.random_effects[0].to_numpy()
        for ours, theirs in ((models[0], blup[:12]), (models[1], blup[12:])):
            centred = ours.loc[:, 0, 0] - ours.loc[:, 0, 0].mean()
            np.testing.assert_allclose(centred, theirs - theirs.mean(), atol=0.03)

    def test_the_batch_comes_last(self):
        """And of the others the one with the fewest levels first."""
        assert backfitting_order([9, 5, 2])[:3] == [2, 1, 0]
        assert backfitting_order([9]) == [0]


def test_few_genes_at_once_give_the_same(draw_cells, groups_of, monkeypatch):
    residuals, batch, state, _ = draw_cells(3, np.full(7, 0.5), 0.2)
    groups = groups_of(residuals, batch, state)
    together = fit_mixed_model(groups, UNLIKE)
    n_genes = []
    fixed = MixedEquations.fixed
    monkeypatch.setattr(
        MixedEquations, "fixed", lambda self, y: n_genes.append(y.shape[2]) or fixed(self, y)
    )
    monkeypatch.setattr(_equations, "VALUES_AT_ONCE", 3 * N_BATCH * N_STATES)
    apart = fit_mixed_model(groups, UNLIKE)
    assert set(n_genes) == {3, 1}
    for name in ("probabilities", "fixed", "loc", "sd", "sd_of_sum"):
        ours, expected = getattr(apart, name), getattr(together, name)
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
