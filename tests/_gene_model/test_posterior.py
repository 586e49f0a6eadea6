"""Posterior of the effects on genes: moments, draws, and batches that were added."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from scmedal_tools._gene_model import (
    NETWORK_SHARE,
    GroupSums,
    MixedEffects,
    MixedModel,
    fit_mixed_model,
)
from scmedal_tools._gene_model._equations import VARIANCE_RATIOS, VARIANCES
from scmedal_tools._gene_model._posterior import SPREAD

N_FITTED, N_STATES, N_GENES = 8, 3, 200
RAISED = 5
WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
# Variances that a gene has for certain.
NONE = VARIANCE_RATIOS[0]
CERTAIN = [(0.064, 0.016, False), (0.256, 0.064, True), (NONE, 0.016, False), (0.016, NONE, False)]
# Probabilities that they follow the network's guess.
FOLLOWS = torch.tensor([0.0, 1.0, 0.5, 0.2])


def holding(
    alone: MixedModel, following: MixedModel | None = None, n_new: int = 0
) -> MixedEffects:
    n_levels, n_states, n_genes = alone.means.shape
    effects = MixedEffects(n_levels, n_states, n_genes, n_new)
    effects.set_models(alone, following or alone, np.zeros(alone.means.shape))
    return effects


@pytest.fixture(scope="session")
def draw_many(repeat_genes):
    """Give a function that draws fixed and random effects, as many of each gene as calls x copies.

    The draws are the first dimension of both.
    """

    def draw_many(effects: MixedEffects, n_copies: int, n_calls: int, n_unseen: int = 0):
        n_levels, n_states, n_genes = effects.loc.shape
        many = MixedEffects(n_levels, n_states, n_copies * n_genes, effects.n_new)
        repeat_genes(effects, many)
        generator = torch.Generator().manual_seed(0)
        drawn = zip(*(many.draw(generator, n_unseen) for _ in range(n_calls)), strict=True)
        return tuple(
            torch.cat([x.unflatten(-1, (n_genes, n_copies)).movedim(-1, 0) for x in values])
            for values in drawn
        )

    return draw_many


class TestKnownVariances:
    """Every gene has one point for certain, so that its posterior is a single normal."""

    @pytest.fixture(scope="class")
    def solved(self, solve_densely):
        rng = np.random.default_rng(0)
        sizes = rng.integers(0, 40, size=(4, N_STATES)).astype(float)
        scale = rng.uniform(0.5, 2, size=(N_STATES, len(CERTAIN)))
        shape = (4, N_STATES, len(CERTAIN))
        means = np.where(sizes[:, :, None] > 0, 0.5 * rng.normal(size=shape), 0.0)
        correlation = 0.5 + 0.5 * np.eye(N_STATES)
        probabilities = np.zeros((len(CERTAIN), len(VARIANCES)))
        fixed = np.empty_like(scale)
        loc, sd, sd_of_sum = np.empty((3, *shape))
        solutions = []
        for gene, variances in enumerate(CERTAIN):
            probabilities[gene, VARIANCES.index(variances)] = 1
            of_batch, of_state, correlated = variances
            covariance = of_batch + of_state * (correlation if correlated else np.eye(N_STATES))
            dense = solve_densely(sizes, means[:, :, gene], covariance)
            fixed[:, gene] = dense.fixed
            loc[:, :, gene] = dense.loc.reshape(4, N_STATES)
            sd[:, :, gene] = np.sqrt(dense.covariance.diagonal()).reshape(4, N_STATES)
            sd_of_sum[:, :, gene] = np.sqrt(dense.of_sum.diagonal()).reshape(4, N_STATES)
            solutions.append(dense)
        moments = [scale * x for x in (fixed, loc, sd, sd_of_sum)]
        model = MixedModel(sizes, scale, means, probabilities, correlation, *moments)
        moved = 0.3 * rng.normal(size=shape), 0.3 * rng.normal(size=scale.shape)
        following = replace(model, loc=model.loc + moved[0], fixed=model.fixed + moved[1])
        return model, holding(model, following), solutions, moved

    @pytest.fixture(scope="class")
    def draws(self, solved, draw_many):
        """Fixed and random effects, the last ones of two levels that are not known."""
        fixed, effects = draw_many(solved[1], n_copies=60, n_calls=20, n_unseen=2)
        return fixed.numpy(), effects.numpy()

    def test_corrections_are_what_following_changes(self, solved):
        _, effects, _, (of_levels, of_states) = solved
        np.testing.assert_allclose(effects.correction, of_levels, atol=1e-6)
        np.testing.assert_allclose(effects.fixed_correction, of_states, atol=1e-6)

    def test_averages_are_those_of_two_normals(self, solved):
        """One around 0 and one around the guess, each wider than the posterior."""
        model, effects, solutions, (moved, _) = solved
        guess = torch.from_numpy(np.random.default_rng(1).normal(size=(4, len(CERTAIN))))
        ours = effects.averages(WEIGHTS, guess, FOLLOWS)
        for gene, (dense, follows) in enumerate(zip(solutions, FOLLOWS.numpy(), strict=True)):
            weights = WEIGHTS.numpy() * model.scale[:, gene]
            for level in range(4):
                rows = slice(N_STATES * level, N_STATES * (level + 1))
                change = WEIGHTS.numpy() @ moved[level, :, gene] + guess[level, gene].item()
                means = weights @ dense.loc[rows] + np.array([0.0, change])
                variance = SPREAD**2 * weights @ dense.covariance[rows, rows] @ weights
                shares = np.array([1 - follows, follows])
                mean, sd = shares @ means, np.sqrt(variance)
                of_mixture = np.sqrt(variance + shares @ np.square(means - mean))
                below, above = (shares @ f(0, means, sd) for f in (norm.cdf, norm.sf))
                theirs = mean, of_mixture, below, above
                for value, expected in zip(ours, theirs, strict=True):
                    assert value[level, gene].item() == pytest.approx(expected, abs=1e-5)

    def test_draws_have_the_moments(self, solved, draws):
        """Their means, and their standard deviations times the spread."""
        model, (fixed, effects) = solved[0], draws
        np.testing.assert_allclose(effects[:, :4].mean(0), model.loc, atol=0.12 * SPREAD)
        np.testing.assert_allclose(effects[:, :4].std(0), SPREAD * model.sd, rtol=0.12)
        np.testing.assert_allclose(fixed.mean(0), model.fixed, atol=0.12 * SPREAD)
        both = (fixed[:, None] + effects[:, :4]).std(0)
        np.testing.assert_allclose(both, SPREAD * model.sd_of_sum, rtol=0.12)

    def test_fixed_effects_move_with_the_random_ones(self, solved, draws):
        """Group means that are known well leave no doubt about the sum of both."""
        fixed, effects = draws
        both, apart = (fixed[:, None] + effects[:, :4]).var(0), fixed.var(0)
        large = solved[0].sizes.argmax(0)
        # Of the first two genes, whose effects are large.
        assert np.all(both[large, range(N_STATES), :2] < apart[:, :2])

    def test_unseen_levels_are_drawn_from_the_prior(self, solved, draws):
        """Widened likewise."""
        model, values = solved[0], draws[1][:, 4:]
        for gene, (of_batch, of_state, correlated) in enumerate(CERTAIN):
            similarity = model.correlation if correlated else np.eye(N_STATES)
            scale = SPREAD * model.scale[:, gene]
            prior = np.outer(scale, scale) * (of_batch + of_state * similarity)
            largest = prior.max()
            for level in range(2):
                drawn = values[:, level, :, gene]
                np.testing.assert_allclose(np.cov(drawn.T), prior, atol=0.2 * largest)
                np.testing.assert_allclose(drawn.mean(0), 0, atol=0.15 * largest**0.5)
            # One new level is not informative about another.
            between = np.corrcoef(values[:, 0, 0, gene], values[:, 1, 0, gene])[0, 1]
            assert abs(between) < 0.15


class TestMixtures:
    """Genes with little data, of which several variances may be true."""

    def test_averages_are_those_of_draws(self, draw_cells, groups_of, draw_many):
        residuals, batch, state, _ = draw_cells(5, np.repeat([0.0, 0.4], [60, 6]), 0.0, 160)
        model = fit_mixed_model(groups_of(residuals, batch, state), torch.eye(N_STATES).double())
        effects = holding(model)
        nothing = torch.zeros(N_FITTED, 66)
        ours = effects.averages(WEIGHTS, nothing, torch.zeros(66))
        _, values = draw_many(effects, n_copies=40, n_calls=10)
        drawn = torch.einsum("s,nksg->nkg", WEIGHTS, values).numpy()
        error = 5 * drawn.std(0) / 400**0.5 + 1e-6
        assert np.all(np.abs(ours.mean.numpy() - drawn.mean(0)) < error)
        np.testing.assert_allclose(ours.sd, drawn.std(0), rtol=0.2, atol=0.01)
        # Effects that do not matter have no sign; drawn ones have either about as often.
        none = np.broadcast_to(model.probabilities[:, 0], drawn.shape[1:])
        np.testing.assert_allclose(ours.negative + none / 2, (drawn < 0).mean(0), atol=0.1)
        np.testing.assert_allclose(ours.positive + none / 2, (drawn > 0).mean(0), atol=0.1)
        np.testing.assert_allclose(1 - ours.negative - ours.positive, none, atol=1e-3)
        assert 0.01 < none.mean() < 0.99


class TestAddedBatch:
    @pytest.fixture(scope="class")
    def grown(self):
        """Eight batches, in which only every second gene differs, and a ninth; it raises one."""
        rng = np.random.default_rng(0)
        n = 2_700
        batch, state = rng.integers(N_FITTED + 1, size=n), rng.integers(N_STATES, size=n)
        effects = rng.normal(0, 0.5, size=(N_FITTED + 1, N_GENES))
        effects[:, 1::2] = 0
        effects[N_FITTED, RAISED] = 2.0
        x = (effects[batch] + rng.normal(size=(n, N_GENES))).astype(np.float32)
        known = batch < N_FITTED
        reference = GroupSums(N_FITTED, N_STATES, N_GENES)
        reference.add(x[known], batch[known], state[known])
        fitted = holding(fit_mixed_model(reference, torch.eye(N_STATES).double()))
        new = GroupSums(N_FITTED + 1, N_STATES, N_GENES)
        new.add(x[~known], batch[~known], state[~known])
        return fitted, self.grow(fitted, new, np.zeros_like(new.means)), effects, new

    @staticmethod
    def grow(fitted, new, guess):
        """``guess`` is what genes that follow have of it."""
        grown = MixedEffects(N_FITTED + 1, N_STATES, N_GENES, n_new=1)
        for name, values in fitted.named_buffers():
            getattr(grown, name)[: len(values)] = values
        grown.learn_new(new.sizes, new.means, new.means - guess)
        return grown

    @pytest.fixture(scope="class")
    def draws(self, grown, draw_many):
        return draw_many(grown[1], n_copies=30, n_calls=10)

    def test_the_others_keep_theirs(self, grown):
        fitted, grown, *_ = grown
        for name, values in fitted.named_buffers():
            assert torch.equal(getattr(grown, name)[: len(values)], values), name

    def test_genes_may_differ_that_did_not_before(self, grown):
        fitted, grown, *_ = grown
        assert fitted.loc[:, :, RAISED].abs().max() < 0.3
        assert grown.loc[N_FITTED, :, RAISED].mean().item() == pytest.approx(2, abs=0.3)
        unchanged = np.setdiff1d(np.arange(1, N_GENES, 2), [RAISED])
        assert grown.loc[N_FITTED, :, unchanged].abs().mean() < 0.02

    def test_its_effects_are_found(self, grown):
        _, grown, effects, _ = grown
        found = grown.loc[N_FITTED].mean(0).numpy()
        # They are counted from the mean of the batches that were fitted.
        truth = effects[N_FITTED] - effects[:N_FITTED].mean(0)
        assert np.corrcoef(found[::2], truth[::2])[0, 1] > 0.97

    def test_its_averages_are_those_of_its_posterior(self, grown):
        grown = grown[1]
        nothing = torch.zeros(N_FITTED + 1, N_GENES)
        averages = grown.averages(torch.eye(N_STATES)[1], nothing, torch.zeros(N_GENES))
        expected = grown.loc[:, 1].double()
        torch.testing.assert_close(averages.mean, expected, atol=1e-3, rtol=1e-3)
        assert averages.positive[N_FITTED, RAISED] > 0.999
        assert averages.positive[0, RAISED] < 0.9

    def test_its_averages_are_a_mixture_of_normals(self, grown):
        """Given the fixed effects, written out for each point of the grid."""
        _, grown, _, new = grown
        scale = grown.scale.double().numpy()
        rest = (new.means[N_FITTED] - grown.fixed.numpy()) / scale
        mean = squares = 0.0
        for weight, (of_batch, of_state, _) in zip(
            grown.new_probabilities.T, VARIANCES, strict=True
        ):
            prior = of_batch + of_state * np.eye(N_STATES)
            gain = prior @ np.linalg.inv(prior + np.diag(1 / new.sizes[N_FITTED]))
            centre, variance = (gain @ rest)[1], SPREAD**2 * (prior - gain @ prior)[1, 1]
            mean = mean + weight.numpy() * centre
            squares = squares + weight.numpy() * (np.square(centre) + variance)
        nothing = torch.zeros(N_FITTED + 1, N_GENES)
        ours = grown.averages(torch.eye(N_STATES)[1], nothing, torch.zeros(N_GENES))
        np.testing.assert_allclose(ours.mean[N_FITTED], scale[1] * mean, atol=1e-4)
        sd = scale[1] * np.sqrt(squares - np.square(mean))
        np.testing.assert_allclose(ours.sd[N_FITTED], sd, rtol=1e-2, atol=1e-3)

    def test_draws_have_its_posterior(self, grown, draws):
        """Its cells leave little doubt about the sum of fixed and random effects."""
        grown = grown[1]
        fixed, effects = draws
        of_sum = fixed + effects[:, N_FITTED]
        expected = grown.fixed + grown.loc[N_FITTED]
        sd = SPREAD * grown.sd[N_FITTED]
        large = sd > 0.5 * sd.max()
        assert (of_sum.mean(0) - expected)[large].abs().mean() < 0.15 * sd[large].mean()
        assert (of_sum.std(0)[large] / sd[large]).mean().item() == pytest.approx(1, abs=0.15)

    def test_has_the_same_fixed_effects_in_a_draw(self, draws):
        """So that its difference to the others is as uncertain as their groups' means are."""
        fixed, effects = draws
        for batch in (0, N_FITTED):
            # Without the spread, the variance of a mean of about 100 cells.
            assert (fixed + effects[:, batch]).var(0)[:, ::2].mean() < 0.02 * SPREAD**2
        to_new = (effects[:, N_FITTED] - effects[:, 0]).var(0)[:, ::2].mean()
        between_fitted = (effects[:, 1] - effects[:, 0]).var(0)[:, ::2].mean()
        assert to_new == pytest.approx(between_fitted.item(), rel=0.3)

    def test_a_guess_of_it_is_left_out_of_the_correction(self, grown):
        """Genes that follow have the share of the guess, and what it leaves."""
        fitted, without, _, new = grown
        guess = np.zeros_like(new.means)
        guess[N_FITTED, :, RAISED] = 2.0 / NETWORK_SHARE
        grown = self.grow(fitted, new, NETWORK_SHARE * guess)
        assert torch.equal(grown.loc, without.loc)
        other = np.setdiff1d(np.arange(N_GENES), [RAISED])
        assert grown.correction[N_FITTED][:, other].abs().max() < 1e-5
        # The raised gene's effect is in the guess, so that nearly nothing is left.
        corrected = grown.loc[N_FITTED, :, RAISED] + grown.correction[N_FITTED, :, RAISED]
        assert corrected.abs().max() < 0.4
        follows = torch.zeros(N_GENES)
        follows[RAISED] = 1.0
        of_network = NETWORK_SHARE * torch.from_numpy(guess.mean(1))
        weights = torch.full((N_STATES,), 1 / N_STATES)
        averages = grown.averages(weights, of_network, follows)
        total = corrected.mean().item() + 2.0
        assert averages.mean[N_FITTED, RAISED].item() == pytest.approx(total, abs=1e-3)
        assert total == pytest.approx(2.0, abs=0.3)
        assert averages.positive[N_FITTED, RAISED] > 0.99
