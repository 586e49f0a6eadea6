"""A linear mixed model for each gene, with variances from an empirical prior over all genes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ._equations import VARIANCES, MixedEquations, covariances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ._groups import GroupSums

EM_STEPS = 200
BACKFITTING_ROUNDS = 4
# Posterior probability of variances that no gene needs.
NEGLIGIBLE = 1e-6
# Of the network's effects, what is the mean of those on single genes, for genes that follow it.
NETWORK_SHARE = 0.5


@dataclass(frozen=True)
class MixedModel:
    """Result of :func:`fit_mixed_model`.

    Every gene has probabilities of ``VARIANCES`` twice: of effects with mean zero, and of effects
    whose mean is the network's guess.
    """

    sizes: np.ndarray
    """Cells of each batch and state."""
    scale: np.ndarray
    """Standard deviation of the cells of each state, states x genes."""
    means: np.ndarray
    """Means of groups in units of the scale, batches x states x genes."""
    guess: np.ndarray
    """What the network expects of the effects, in units of the scale, shaped as the means."""
    probabilities: np.ndarray
    """Posterior of each gene, genes x (2 x variances)."""
    correlation: np.ndarray
    """Correlation of the effects on states, states x states."""
    fixed: np.ndarray
    """Fixed effects of the states, states x genes."""
    loc: np.ndarray
    """Posterior means of a batch's effects on each state beyond the guess."""
    sd: np.ndarray
    """Posterior standard deviations of a batch's effects on each state."""

    @property
    def follows_guess(self) -> np.ndarray:
        """Probability of each gene that the network's guess is the mean of its effects."""
        return self.probabilities[:, len(VARIANCES) :].sum(1)


def fit_crossed_models(
    groups: GroupSums,
    guess: GroupSums,
    levels: np.ndarray,
    n_levels: Sequence[int],
    correlation: Tensor,
    scale: np.ndarray,
) -> list[MixedModel]:
    """Fit random effects of every factor; with several factors in turn, to what the others leave.

    The factors with the fewest levels come first, so that one whose levels lie within those of
    another does not take its effects; the batch comes last. The network's guess is of all factors
    together: the batch's model decides which genes follow it.

    Parameters
    ----------
    groups
        What there is to be explained, for each combination of levels.
    guess
        What the network expects of the effects of all factors together.
    levels
        Level of each combination and factor, ``(n_combinations, n_factors)``.
    n_levels
        Number of levels of each factor.
    correlation, scale
        See :func:`fit_mixed_model`.

    Returns
    -------
    list of MixedModel
        One for each factor. The fixed effects are those of the first.
    """
    models: dict[int, MixedModel] = {}
    for factor in backfitting_order(n_levels):
        left, mean = groups, None
        for other, model in models.items():
            if other != factor:
                left = left.without(model.loc[levels[:, other]])
        if factor:
            follows = models[0].follows_guess if 0 in models else 1.0
            left = left.without(NETWORK_SHARE * follows * guess.means)
        else:
            mean = guess.over(levels[:, 0], n_levels[0]).means
        of_levels = left.over(levels[:, factor], n_levels[factor])
        models[factor] = fit_mixed_model(of_levels, correlation, scale, mean)
    return [models[factor] for factor in range(len(n_levels))]


def backfitting_order(n_levels: Sequence[int]) -> list[int]:
    """Factors in the order in which they are fitted in turn: few levels first, the batch last."""
    n_factors = len(n_levels)
    order = [*sorted(range(1, n_factors), key=lambda factor: n_levels[factor]), 0]
    return order * (BACKFITTING_ROUNDS if n_factors > 1 else 1)


def fit_mixed_model(
    groups: GroupSums,
    correlation: Tensor,
    scale: np.ndarray | None = None,
    guess: np.ndarray | None = None,
) -> MixedModel:
    r"""Fit ``state + (1 | batch) + (0 + state | batch)`` to every gene.

    A state's cells are divided by their standard deviation first: effects on expression are large
    where a gene is expressed, and so is its noise. The variances :math:`\tau_b^2, \tau_d^2` of a
    gene's random effects, whether the second kind is correlated between similar states, and
    whether the effects vary around zero or around a guess, are then a point of a grid. How often
    each point occurs among the genes is estimated from all of them (nonparametric empirical Bayes
    on the restricted likelihoods, so that many or few genes may have no effect at all). Given a
    point the posterior is Gaussian; a gene's is their mixture.

    Parameters
    ----------
    groups
        What there is to be explained.
    correlation
        Correlation of the effects on similar states, ``(n_states, n_states)``.
    scale
        Standard deviation of the cells of each state, states x genes; ``None`` to find it.
    guess
        Effects that a network expects, batches x states x genes; half of them may be the mean of
        a gene's effects. ``None`` for no guess.

    References
    ----------
    Patterson and Thompson, Biometrika 1971 (restricted likelihood); Kiefer and Wolfowitz, Annals
    of Mathematical Statistics 1956, and Stephens, Biostatistics 2017 (the empirical prior).
    """
    scale = np.sqrt(groups.noise()) if scale is None else scale
    means = groups.means / scale
    expected = np.zeros_like(means) if guess is None else NETWORK_SHARE * guess / scale
    sizes, y, of_network = map(torch.from_numpy, (groups.sizes, means, expected))
    equations = [MixedEquations(sizes, covariance) for covariance in covariances(correlation)]
    evidence = [torch.stack([model.evidence(y) for model in equations], 1)]
    if guess is None:
        evidence.append(torch.full_like(evidence[0], -torch.inf))
    else:
        evidence.append(torch.stack([model.evidence(y - of_network) for model in equations], 1))
        # No network's guess is exact: its effects vary around it.
        evidence[1][:, 0] = -torch.inf
    probabilities = posterior_of_genes(torch.cat(evidence, 1).numpy())
    model = MixedModel(
        sizes=groups.sizes,
        scale=scale,
        means=means,
        guess=expected,
        probabilities=probabilities,
        correlation=correlation.numpy(),
        fixed=np.zeros_like(scale),
        loc=np.zeros_like(means),
        sd=np.zeros_like(means),
    )
    return _with_moments(model, equations)


def points(probabilities: Tensor) -> list[tuple[int, bool, Tensor]]:
    """Points that some gene needs: its variances, whether it follows the guess, probabilities."""
    n = len(VARIANCES)
    return [
        (i % n, i >= n, weight)
        for i, weight in enumerate(probabilities.T)
        if weight.max() >= NEGLIGIBLE
    ]


def _with_moments(model: MixedModel, equations: list[MixedEquations]) -> MixedModel:
    """Average the posteriors over the points."""
    y, guess, probabilities = map(
        torch.from_numpy, (model.means, model.guess, model.probabilities)
    )
    fixed = loc = total = squares = torch.zeros(())
    for point, follows, weight in points(probabilities):
        of_point, mean = equations[point], guess if follows else torch.zeros_like(guess)
        c = of_point.fixed(y - mean)
        effects = of_point.effects(y - mean, c)
        variance = of_point.covariance_of_effects.diagonal(dim1=1, dim2=2)[:, :, None]
        fixed, loc = fixed + weight * c, loc + weight * effects
        total = total + weight * (effects + mean)
        squares = squares + weight * ((effects + mean).square() + variance)
    sd = (squares - total.square()).clamp_min(0).sqrt()
    moments = {"fixed": fixed, "loc": loc, "sd": sd}
    return replace(model, **{k: model.scale * v.numpy() for k, v in moments.items()})


def posterior_of_genes(evidence: np.ndarray) -> np.ndarray:
    """Posterior of each gene over the columns, whose frequencies are estimated."""
    likelihood = np.exp(evidence - evidence.max(1, keepdims=True))
    frequencies = np.full(evidence.shape[1], 1 / evidence.shape[1])
    for _ in range(EM_STEPS):
        posterior = likelihood * frequencies
        posterior /= posterior.sum(1, keepdims=True)
        frequencies = posterior.mean(0)
    return posterior
