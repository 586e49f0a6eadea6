"""A linear mixed model for each gene, with variances from an empirical prior over all genes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from scmedal_tools._docs import with_shared_parts

from ._equations import (
    VARIANCES,
    MixedEquations,
    covariance_of,
    restricted_likelihoods,
    some_genes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ._group_sums import GroupSums

EM_STEPS = 200
BACKFITTING_ROUNDS = 4
# Posterior probability of variances that no gene needs.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class MixedModel:
    """Result of :func:`fit_mixed_model`."""

    sizes: np.ndarray
    """Cells of each batch and state."""
    scale: np.ndarray
    """Standard deviation of the cells of each state, states x genes."""
    means: np.ndarray
    """Means of groups in units of the scale, batches x states x genes."""
    probabilities: np.ndarray
    """Posterior of each gene over ``VARIANCES``, genes x variances."""
    correlation: np.ndarray
    """Correlation of the effects on states, states x states."""
    fixed: np.ndarray
    """Fixed effects of the states, states x genes."""
    loc: np.ndarray
    """Posterior means of a batch's effects on each state, batches x states x genes."""
    sd: np.ndarray
    """Their posterior standard deviations."""
    sd_of_sum: np.ndarray
    """Those of the fixed plus the random effects."""


@with_shared_parts
def fit_crossed_models(
    groups: GroupSums,
    levels: np.ndarray,
    n_levels: Sequence[int],
    correlation: Tensor,
    scale: np.ndarray,
) -> list[MixedModel]:
    """Fit random effects of every factor; with several factors in turn, to what the others leave.

    The factors with the fewest levels come first, so that one whose levels lie within those of
    another does not take its effects; the batch comes last.

    Parameters
    ----------
    groups
        What there is to be explained, for each combination of levels.
    %(levels)s
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
        left = groups
        for other, model in models.items():
            if other != factor:
                left = left.without(model.loc[levels[:, other]])
        of_levels = left.over(levels[:, factor], n_levels[factor])
        models[factor] = fit_mixed_model(of_levels, correlation, scale)
    return [models[factor] for factor in range(len(n_levels))]


def backfitting_order(n_levels: Sequence[int]) -> list[int]:
    """Factors in the order in which they are fitted in turn: few levels first, the batch last."""
    n_factors = len(n_levels)
    order = [*sorted(range(1, n_factors), key=lambda factor: n_levels[factor]), 0]
    return order * (BACKFITTING_ROUNDS if n_factors > 1 else 1)


def fit_mixed_model(
    groups: GroupSums, correlation: Tensor, scale: np.ndarray | None = None
) -> MixedModel:
    r"""Fit ``state + (1 | batch) + (0 + state | batch)`` to every gene.

    A state's cells are divided by their standard deviation first: effects on expression are large
    where a gene is expressed, and so is its noise. The variances :math:`\tau_b^2, \tau_d^2` of a
    gene's random effects, and whether the second kind is correlated between similar states, are
    then a point of a grid. How often each point occurs among the genes is estimated from all of
    them (nonparametric empirical Bayes on the restricted likelihoods, so that many or few genes
    may have no effect at all). Given a point the posterior is Gaussian; a gene's is their mixture.

    Parameters
    ----------
    groups
        What there is to be explained.
    correlation
        Correlation of the effects on similar states, ``(n_states, n_states)``.
    scale
        Standard deviation of the cells of each state, states x genes; ``None`` to find it.

    References
    ----------
    Patterson and Thompson, Biometrika 1971 (restricted likelihood); Kiefer and Wolfowitz, Annals
    of Mathematical Statistics 1956, and Stephens, Biostatistics 2017 (the empirical prior).
    """
    scale = np.sqrt(groups.noise()) if scale is None else scale
    means = groups.means / scale
    sizes, y = torch.from_numpy(groups.sizes), torch.from_numpy(means)
    equations = [
        MixedEquations(sizes, covariance_of(point, correlation)) for point in range(len(VARIANCES))
    ]
    probabilities = posterior_over_genes(restricted_likelihoods(equations, y).numpy())
    moments = _moments(y, torch.from_numpy(probabilities), equations)
    return MixedModel(
        sizes=groups.sizes,
        scale=scale,
        means=means,
        probabilities=probabilities,
        correlation=correlation.numpy(),
        **{name: scale * values.numpy() for name, values in moments._asdict().items()},
    )


class Moments(NamedTuple):
    """Moments of the posterior over all variances, in units of the scale."""

    fixed: Tensor
    loc: Tensor
    sd: Tensor
    sd_of_sum: Tensor


def points(probabilities: Tensor) -> list[tuple[int, Tensor]]:
    """Variances that some gene needs, by their place in ``VARIANCES``, and probabilities."""
    return [(i, weight) for i, weight in enumerate(probabilities.T) if weight.max() >= NEGLIGIBLE]


def _moments(y: Tensor, probabilities: Tensor, equations: list[MixedEquations]) -> Moments:
    needed = [point for point, _ in points(probabilities)]
    variance, of_sum = (
        torch.stack([values(equations[point]) for point in needed], -1)
        for values in (MixedEquations.variance_of_effects, MixedEquations.variance_of_sum)
    )
    # Genes that need the same variances are worked on at once.
    order = probabilities.argmax(1).argsort()
    parts, start = [], 0
    for part in some_genes(y[:, :, order]):
        weights = probabilities[order[start : (start := start + part.shape[2])]]
        of_points = [(equations[point], weight) for point, weight in points(weights)]
        weights = weights[:, needed].T
        parts.append(_moments_of(part, of_points, variance @ weights, of_sum @ weights))
    of_gene = order.argsort()
    return Moments(*(torch.cat(values, -1)[..., of_gene] for values in zip(*parts, strict=True)))


def _moments_of(
    y: Tensor, of_points: list[tuple[MixedEquations, Tensor]], variance: Tensor, of_sum: Tensor
) -> Moments:
    """Moments of some genes, given what the variances themselves are on average."""
    fixed, loc = y.new_zeros(y.shape[1:]), torch.zeros_like(y)
    squares, squares_of_sum = variance, of_sum
    for equations, weight in of_points:
        c = equations.fixed(y)
        effects = equations.effects(y, c)
        total = c + effects
        fixed.addcmul_(weight, c)
        loc.addcmul_(weight, effects)
        squares.addcmul_(weight * effects, effects)
        squares_of_sum.addcmul_(weight * total, total)
    sd = (squares - loc.square()).clamp_min(0).sqrt()
    sd_of_sum = (squares_of_sum - (fixed + loc).square()).clamp_min(0).sqrt()
    return Moments(fixed, loc, sd, sd_of_sum)


def posterior_over_genes(
    evidence: np.ndarray, further_genes: np.ndarray | float = 0.0
) -> np.ndarray:
    """Posterior of each gene over the columns, whose frequencies are estimated.

    ``further_genes`` are numbers of genes in each column that are counted in beforehand.
    """
    likelihood = np.exp(evidence - evidence.max(1, keepdims=True))
    frequencies = np.full(evidence.shape[1], 1 / evidence.shape[1])
    for _ in range(EM_STEPS):
        posterior = likelihood * frequencies
        posterior /= posterior.sum(1, keepdims=True)
        genes = posterior.sum(0) + further_genes
        frequencies = genes / genes.sum()
    return posterior
