"""The mixed model of single genes, against statsmodels, dense matrices and known effects."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
import torch

from scmedal_tools._gene_model import (
    NETWORK_SHARE,
    GroupSums,
    backfitting_order,
    fit_crossed_models,
    fit_mixed_model,
    state_correlation,
)
from scmedal_tools._gene_model._equations import VARIANCES

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
    # The standard error of a batch's mean is 0.06.
    assert np.abs(fitted.loc).mean() < 0.003
    np.testing.assert_allclose(fitted.fixed.mean(1), [0.5, 0, -0.5], atol=0.02)


def test_a_mixture_has_the_variance_of_its_parts(draw_cells, groups_of):
    """Half of the genes have effects; of a gene with little data either may be true."""
    residuals, batch, state, effects = draw_cells(5, np.repeat([0.0, 0.5], 500), 0.0, n_cells=60)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    errors = np.square(fitted.loc - effects).mean((0, 1))
    claimed = np.square(fitted.sd).mean((0, 1))
    for genes in np.array_split(np.argsort(claimed), 4)[1:]:
        assert errors[genes].mean() == pytest.approx(claimed[genes].mean(), rel=0.3)


class TestGuess:
    """A network's guess: of the first 100 genes right, of the second wrong, else of nothing."""

    @pytest.fixture(scope="class")
    def guessed(self, draw_cells, groups_of):
        residuals, batch, state, effects = draw_cells(7, np.repeat([0.5, 0.5, 0.0], 100), 0.0)
        rng = np.random.default_rng(8)
        guess = rng.normal(0, 1.0, size=effects.shape)
        guess[:, :, :100] = effects[:, :, :100] / NETWORK_SHARE
        guess[:, :, :100] += rng.normal(0, 0.1, size=(N_BATCH, N_STATES, 100))
        groups = groups_of(residuals, batch, state)
        return fit_mixed_model(groups, UNLIKE, guess=guess), groups, guess, effects

    def test_right_ones_are_followed(self, guessed):
        right, wrong, nothing = np.split(guessed[0].follows_guess, 3)
        assert np.quantile(right, 0.1) > 0.95
        assert np.quantile(wrong, 0.9) < 0.05
        assert np.quantile(nothing, 0.9) < 0.05

    def test_genes_without_effects_get_none_from_it(self, guessed):
        fitted, _, guess, _ = guessed
        follows = fitted.follows_guess[200:]
        total = fitted.loc[:, :, 200:] + NETWORK_SHARE * follows * guess[:, :, 200:]
        assert np.abs(total).mean() < 0.01

    def test_the_posterior_is_around_it(self, guessed):
        """Closer to the truth than without, by as much as is claimed."""
        fitted, groups, guess, effects = guessed
        without = fit_mixed_model(groups, UNLIKE)
        right, truth = slice(0, 100), effects[:, :, :100] - effects[:, :, :100].mean(0)
        total = fitted.loc[:, :, right] + NETWORK_SHARE * guess[:, :, right]
        total -= total.mean(0)
        errors = [np.square(x - truth).mean() for x in (total, without.loc[:, :, right])]
        assert errors[0] < 0.7 * errors[1]
        claimed = np.square(fitted.sd[:, :, right]).mean()
        assert claimed < 0.7 * np.square(without.sd[:, :, right]).mean()

    def test_equals_dense_matrices(self, draw_cells, groups_of, solve_densely):
        """Probabilities and moments, with the mixture over all variances written out."""
        residuals, batch, state, effects = draw_cells(9, [0.4, 0.2, 0.0, 0.5], 0.2, n_cells=200)
        groups = groups_of(residuals, batch, state)
        guess = 2 * effects + np.random.default_rng(0).normal(0, 0.3, size=effects.shape)
        guess[:, :, 1] *= -1
        profiles = torch.tensor([[0.0], [1.0], [3.0]])
        fitted = fit_mixed_model(groups, state_correlation(profiles), guess=guess)
        scale = np.sqrt(groups.noise())
        means, expected = groups.means / scale, 0.5 * guess / scale
        similarity = state_correlation(profiles).numpy()
        solutions = [
            [
                solve_densely(
                    groups.sizes,
                    means[:, :, gene] - follows * expected[:, :, gene],
                    of_batch + of_state * (similarity if correlated else np.eye(3)),
                )
                for follows in (0, 1)
                for of_batch, of_state, correlated in VARIANCES
            ]
            for gene in range(4)
        ]
        evidence = np.array([[dense.evidence for dense in row] for row in solutions])
        evidence[:, len(VARIANCES)] = -np.inf  # no effect beyond the guess
        likelihood = np.exp(evidence - evidence.max(1, keepdims=True))
        frequencies = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
        for _ in range(200):
            posterior = likelihood * frequencies
            posterior /= posterior.sum(1, keepdims=True)
            frequencies = posterior.mean(0)
        np.testing.assert_allclose(fitted.probabilities, posterior, atol=1e-6)
        for gene, row in enumerate(solutions):
            weights = posterior[gene]
            loc = sum(w * dense.loc for w, dense in zip(weights, row, strict=True))
            fixed = sum(w * dense.fixed for w, dense in zip(weights, row, strict=True))
            share = np.repeat([0.0, 1.0], len(VARIANCES))[:, None] * expected[:, :, gene].ravel()
            totals = np.stack([dense.loc for dense in row]) + share
            variances = np.stack([dense.covariance.diagonal() for dense in row])
            squares = weights @ (np.square(totals) + variances)
            sd = np.sqrt(squares - np.square(weights @ totals))
            of_groups = scale[:, gene] * np.ones((N_BATCH, 1))
            for ours, values in ((fitted.loc, loc), (fitted.sd, sd)):
                theirs = of_groups * values.reshape(N_BATCH, N_STATES)
                np.testing.assert_allclose(ours[:, :, gene], theirs, atol=1e-4)
            np.testing.assert_allclose(fitted.fixed[:, gene], scale[:, gene] * fixed, atol=1e-4)


class TestCrossed:
    def test_agree_with_statsmodels(self):
        """One gene with effects of both factors: best linear unbiased predictions, other route."""
        rng = np.random.default_rng(3)
        n = 3_000
        first, second = rng.integers(12, size=n), rng.integers(6, size=n)
        of_first, of_second = rng.normal(0, 0.6, 12), rng.normal(0, 0.4, 6)
        y = of_first[first] + of_second[second] + rng.normal(size=n)
        groups, guess = GroupSums(72, 1, 60), GroupSums(72, 1, 60)
        code, state = first * 6 + second, np.zeros(n, int)
        # The same gene many times, as the prior over variances is learned from all genes.
        groups.add(np.repeat(y[:, None], 60, 1).astype(np.float32), code, state)
        guess.add(np.zeros((n, 60)), code, state)
        levels = np.array([[k // 6, k % 6] for k in range(72)])
        scale = np.sqrt(groups.noise())
        alike = torch.ones(1, 1).double()
        models = fit_crossed_models(groups, guess, levels, (12, 6), alike, scale)
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

    def test_the_guess_is_taken_out_of_further_factors(self):
        """It is of all factors together: what the batch's model follows is explained."""
        rng = np.random.default_rng(4)
        n, n_genes = 4_000, 80
        batch, second = rng.integers(6, size=n), rng.integers(4, size=n)
        code, state = batch * 4 + second, np.zeros(n, int)
        levels = np.array([[k // 4, k % 4] for k in range(24)])
        of_batch, of_second = rng.normal(0, 0.6, (6, n_genes)), rng.normal(0, 0.6, (4, n_genes))
        effects = (of_batch[batch] + of_second[second]).astype(np.float32)
        groups, guess = GroupSums(24, 1, n_genes), GroupSums(24, 1, n_genes)
        groups.add(effects + rng.normal(size=(n, n_genes)).astype(np.float32), code, state)
        guess.add(effects / NETWORK_SHARE, code, state)
        scale = np.sqrt(groups.noise())
        alike = torch.ones(1, 1).double()
        models = fit_crossed_models(groups, guess, levels, (6, 4), alike, scale)
        assert models[0].follows_guess.mean() > 0.95
        assert np.abs(models[1].loc).mean() < 0.05

    def test_the_batch_comes_last(self):
        """And of the others the one with the fewest levels first."""
        assert backfitting_order([9, 5, 2])[:3] == [2, 1, 0]
        assert backfitting_order([9]) == [0]
