"""Posterior of the effects on genes: moments, draws, and batches that were added."""

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
from scmedal_tools._gene_model._equations import VARIANCES

N_FITTED, N_STATES, N_GENES = 8, 3, 200
RAISED = 5
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
WEIGHTS = torch.tensor([0.5, 0.3, 0.2])
# Variances that a gene has for certain, and whether its effects vary around the guess.
CERTAIN = [
    ((0.064, 0.016, False), False),
    ((0.256, 0.064, True), False),
    ((0.0, 0.016, False), True),
    ((0.016, 0.0, False), True),
]


def holding(model: MixedModel, n_new: int = 0) -> MixedEffects:
    n_levels, n_states, n_genes = model.means.shape
    effects = MixedEffects(n_levels, n_states, n_genes, n_new)
    effects.set_model(model, np.zeros(model.means.shape))
    return effects


class TestKnownVariances:
    """Every gene has one point for certain, so that its posterior is a single normal."""

    @pytest.fixture(scope="class")
    def solved(self, solve_densely):
        rng = np.random.default_rng(0)
        sizes = rng.integers(0, 40, size=(4, N_STATES)).astype(float)
        scale = rng.uniform(0.5, 2, size=(N_STATES, len(CERTAIN)))
        shape = (4, N_STATES, len(CERTAIN))
        means = np.where(sizes[:, :, None] > 0, 0.5 * rng.normal(size=shape), 0.0)
        guess = 0.5 * rng.normal(size=shape)
        correlation = 0.5 + 0.5 * np.eye(N_STATES)
        probabilities = np.zeros((len(CERTAIN), 2 * len(VARIANCES)))
        fixed, loc, sd = np.empty_like(scale), np.empty(shape), np.empty(shape)
        solutions = []
        for gene, (variances, follows) in enumerate(CERTAIN):
            point = VARIANCES.index(variances) + follows * len(VARIANCES)
            probabilities[gene, point] = 1
            of_batch, of_state, correlated = variances
            covariance = of_batch + of_state * (correlation if correlated else np.eye(N_STATES))
            y = means[:, :, gene] - follows * guess[:, :, gene]
            dense = solve_densely(sizes, y, covariance)
            fixed[:, gene] = dense.fixed
            loc[:, :, gene] = dense.loc.reshape(4, N_STATES)
            sd[:, :, gene] = np.sqrt(dense.covariance.diagonal()).reshape(4, N_STATES)
            solutions.append(dense)
        moments = [scale * x for x in (fixed, loc, sd)]
        model = MixedModel(sizes, scale, means, guess, probabilities, correlation, *moments)
        return model, holding(model), solutions

    @pytest.fixture(scope="class")
    def draws(self, solved):
        generator = torch.Generator().manual_seed(0)
        return [solved[1].draw(generator, n_unseen=2) for _ in range(1_200)]

    def test_averages_are_those_of_the_normal(self, solved):
        model, effects, solutions = solved
        of_network = torch.from_numpy(np.random.default_rng(1).normal(size=(4, len(CERTAIN))))
        ours = effects.averages(WEIGHTS, of_network)
        for gene, (dense, (_, follows)) in enumerate(zip(solutions, CERTAIN, strict=True)):
            weights = WEIGHTS.numpy() * model.scale[:, gene]
            for level in range(4):
                rows = slice(N_STATES * level, N_STATES * (level + 1))
                mean = weights @ dense.loc[rows]
                mean += follows * NETWORK_SHARE * of_network[level, gene].item()
                sd = np.sqrt(weights @ dense.covariance[rows, rows] @ weights)
                theirs = mean, sd, norm.cdf(0, mean, sd), norm.sf(0, mean, sd)
                for value, expected in zip(ours, theirs, strict=True):
                    assert value[level, gene].item() == pytest.approx(expected, abs=1e-5)

    def test_what_a_factor_follows_whatever_its_variances(self, solved):
        """Of further factors: it moves the mean, and the chances with it."""
        _, effects, _ = solved
        of_network = torch.full((4, len(CERTAIN)), 3.0)
        followed = torch.tensor([1.0, 0.5, 0.0, 0.0])
        without = effects.averages(WEIGHTS, torch.zeros_like(of_network))
        ours = effects.averages(WEIGHTS, of_network, followed)
        follows = torch.tensor([float(follows) for _, follows in CERTAIN])
        expected = NETWORK_SHARE * 3.0 * (followed + follows)
        torch.testing.assert_close(
            ours.mean - without.mean, expected.expand(4, -1).double(), **CLOSE
        )
        torch.testing.assert_close(ours.sd, without.sd, **CLOSE)
        assert (ours.positive[:, 0] > without.positive[:, 0]).all()

    def test_draws_have_the_moments(self, solved, draws):
        model = solved[0]
        values = torch.stack([draw.effects for draw in draws]).numpy()[:, :4]
        np.testing.assert_allclose(values.mean(0), model.loc, atol=0.12)
        np.testing.assert_allclose(values.std(0), model.sd, rtol=0.12)
        fixed = torch.stack([draw.fixed for draw in draws]).numpy()
        np.testing.assert_allclose(fixed.mean(0), model.fixed, atol=0.12)

    def test_fixed_effects_move_with_the_random_ones(self, solved, draws):
        """Group means that are known well leave no doubt about the sum of both."""
        both = torch.stack([draw.fixed + draw.effects[:4] for draw in draws]).numpy().var(0)
        apart = torch.stack([draw.fixed for draw in draws]).numpy().var(0)
        large = solved[0].sizes.argmax(0)
        # Of the first two genes, whose effects are large.
        assert np.all(both[large, range(N_STATES), :2] < apart[:, :2])

    def test_draws_follow_the_guess_or_not(self, draws):
        expected = torch.tensor([float(follows) for _, follows in CERTAIN]).expand(6, -1)
        for draw in draws[:5]:
            assert torch.equal(draw.follows, expected)

    def test_unseen_levels_are_drawn_from_the_prior(self, solved, draws):
        model = solved[0]
        values = torch.stack([draw.effects for draw in draws]).numpy()[:, 4:]
        for gene, ((of_batch, of_state, correlated), _) in enumerate(CERTAIN):
            similarity = model.correlation if correlated else np.eye(N_STATES)
            scale = model.scale[:, gene]
            prior = np.outer(scale, scale) * (of_batch + of_state * similarity)
            largest = prior.max()
            for level in range(2):
                drawn = values[:, level, :, gene]
                np.testing.assert_allclose(np.cov(drawn.T), prior, atol=0.2 * largest)
                np.testing.assert_allclose(drawn.mean(0), 0, atol=0.15 * largest**0.5)
            # One new level tells nothing of another.
            between = np.corrcoef(values[:, 0, 0, gene], values[:, 1, 0, gene])[0, 1]
            assert abs(between) < 0.15


class TestMixtures:
    """Genes with little data, of which several variances may be true, around a guess or not."""

    @pytest.fixture(scope="class")
    def fitted(self, draw_cells, groups_of):
        residuals, batch, state, effects = draw_cells(5, np.repeat([0.0, 0.4], 6), 0.1, 160)
        guess = effects / NETWORK_SHARE
        guess += np.random.default_rng(0).normal(0, 0.6, size=effects.shape)
        groups = groups_of(residuals, batch, state)
        return fit_mixed_model(groups, torch.eye(N_STATES).double(), guess=guess), guess

    def test_averages_are_those_of_draws(self, fitted):
        model, guess = fitted
        assert 0.05 < model.follows_guess.mean() < 0.95
        effects = holding(model)
        of_network = torch.from_numpy(np.einsum("s,ksg->kg", WEIGHTS, guess))
        ours = effects.averages(WEIGHTS, of_network)
        generator = torch.Generator().manual_seed(0)
        values = []
        for _ in range(400):
            draw = effects.draw(generator)
            followed = NETWORK_SHARE * draw.follows * of_network
            values.append(torch.einsum("s,ksg->kg", WEIGHTS, draw.effects) + followed)
        drawn = torch.stack(values).numpy()
        error = 5 * drawn.std(0) / 400**0.5 + 1e-6
        assert np.all(np.abs(ours.mean.numpy() - drawn.mean(0)) < error)
        np.testing.assert_allclose(ours.sd, drawn.std(0), rtol=0.2, atol=0.01)
        np.testing.assert_allclose(ours.negative, (drawn < -1e-9).mean(0), atol=0.1)
        np.testing.assert_allclose(ours.positive, (drawn > 1e-9).mean(0), atol=0.1)
        # The rest is that there is no effect.
        none = np.broadcast_to(model.probabilities[:, 0], drawn.shape[1:])
        np.testing.assert_allclose(1 - ours.negative - ours.positive, none, atol=1e-3)


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
        grown = MixedEffects(N_FITTED + 1, N_STATES, N_GENES, n_new=1)
        for name, values in fitted.named_buffers():
            getattr(grown, name)[: len(values)] = values
        grown.learn_new(new.sizes, new.means, guess)
        return grown

    @pytest.fixture(scope="class")
    def draws(self, grown):
        generator = torch.Generator().manual_seed(0)
        return [grown[1].draw(generator) for _ in range(300)]

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
        averages = grown.averages(torch.eye(N_STATES)[1], torch.zeros(N_FITTED + 1, N_GENES))
        expected = grown.loc[:, 1].double()
        torch.testing.assert_close(averages.mean, expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(
            averages.sd[N_FITTED], grown.sd[N_FITTED, 1].double(), atol=1e-3, rtol=1e-2
        )
        assert averages.positive[N_FITTED, RAISED] > 0.999
        assert averages.positive[0, RAISED] < 0.9

    def test_draws_have_its_posterior(self, grown, draws):
        """Its cells leave little doubt about the sum of fixed and random effects."""
        grown = grown[1]
        of_sum = torch.stack([draw.fixed + draw.effects[N_FITTED] for draw in draws])
        expected = grown.fixed + grown.loc[N_FITTED]
        sd = grown.sd[N_FITTED]
        large = sd > 0.5 * sd.max()
        assert (of_sum.mean(0) - expected)[large].abs().mean() < 0.15 * sd[large].mean()
        assert (of_sum.std(0)[large] / sd[large]).mean().item() == pytest.approx(1, abs=0.15)

    def test_has_the_same_fixed_effects_in_a_draw(self, draws):
        """So that its difference to the others is as uncertain as their groups' means are."""
        effects = torch.stack([draw.effects for draw in draws])
        fixed = torch.stack([draw.fixed for draw in draws])
        for batch in (0, N_FITTED):
            # The variance of a mean of about 100 cells.
            assert (fixed + effects[:, batch]).var(0)[:, ::2].mean() < 0.02
        to_new = (effects[:, N_FITTED] - effects[:, 0]).var(0)[:, ::2].mean()
        between_fitted = (effects[:, 1] - effects[:, 0]).var(0)[:, ::2].mean()
        assert to_new == pytest.approx(between_fitted.item(), rel=0.3)

    def test_a_gene_that_only_its_network_knows_of(self, grown):
        """The guess may be followed that no other batch has followed, but is never exact."""
        fitted, _, _, new = grown
        guess = np.zeros_like(new.means)
        guess[N_FITTED, :, RAISED] = 2.0 / NETWORK_SHARE
        grown = self.grow(fitted, new, guess)
        follows = grown.follows[N_FITTED, RAISED]
        assert follows > 0.5
        assert grown.follows[0, RAISED] < 0.01
        total = grown.loc[N_FITTED, :, RAISED].mean() + 2.0 * follows
        of_network = torch.from_numpy(guess.mean(1))
        averages = grown.averages(torch.full((N_STATES,), 1 / N_STATES), of_network)
        assert averages.mean[N_FITTED, RAISED].item() == pytest.approx(total.item(), abs=1e-3)
        assert total.item() == pytest.approx(2.0, abs=0.3)
        assert averages.positive[N_FITTED, RAISED] > 0.99
