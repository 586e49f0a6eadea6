"""A linear mixed model for each gene, with variances from an empirical prior over all genes."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from scmedal_tools.module._mixed_equations import MixedEquations, covariances, mixture

if TYPE_CHECKING:
    from collections.abc import Sequence

EM_STEPS = 200
# Rounds over the factors.
SWEEPS = 4
# Cells that the variance of all states counts as in that of each state.
PRIOR_CELLS = 10
MIN_VARIANCE = 1e-8


class GroupSums:
    """Sums of residuals over the cells of every batch and state, minibatch by minibatch."""

    def __init__(self, n_batch: int, n_states: int, n_genes: int):
        self.sizes = np.zeros((n_batch, n_states))
        self.sums = np.zeros((n_batch, n_states, n_genes))
        self.squares = np.zeros((n_states, n_genes))

    def add(self, residuals: np.ndarray, batch: np.ndarray, state: np.ndarray) -> None:
        """Count in the residuals (cells x genes) of some cells."""
        if not len(residuals):
            return
        n_batch, n_states = self.sizes.shape
        group = batch * n_states + state
        self.sizes += np.bincount(group, minlength=n_batch * n_states).reshape(n_batch, n_states)
        _add_by(group, residuals, self.sums.reshape(n_batch * n_states, -1))
        _add_by(state, np.square(residuals, dtype=float), self.squares)

    def without(self, effects: np.ndarray | float) -> GroupSums:
        """Sums of what effects (batches x states x genes) leave; squares are not kept."""
        left = copy(self)
        left.sums = self.sums - self.sizes[:, :, None] * effects
        left.squares = np.full_like(self.squares, np.nan)
        return left

    def over(self, level: np.ndarray, n_levels: int) -> GroupSums:
        """Sums over all batches that have the same level; squares are not kept."""
        summed = GroupSums(n_levels, *self.sums.shape[1:])
        np.add.at(summed.sizes, level, self.sizes)
        np.add.at(summed.sums, level, self.sums)
        summed.squares[:] = np.nan
        return summed

    def noise(self) -> np.ndarray:
        """Variance of the cells of each state around the means of their groups, by gene."""
        means = self.sums / np.maximum(self.sizes, 1)[:, :, None]
        squares = self.squares - (self.sizes[:, :, None] * np.square(means)).sum(0)
        freedom = self.sizes.sum(0) - (self.sizes > 0).sum(0)
        of_all = squares.sum(0) / max(freedom.sum(), 1)
        shrunk = (squares + PRIOR_CELLS * of_all) / (freedom + PRIOR_CELLS)[:, None]
        return np.maximum(shrunk, MIN_VARIANCE)


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
    """Posterior of each gene over the variances considered, genes x variances."""
    likeness: np.ndarray
    """Correlation of the effects on states, states x states."""
    common: np.ndarray
    """Fixed effects of the states, states x genes."""
    loc: np.ndarray
    """Posterior means of a batch's effects on each state, batches x states x genes."""
    sd: np.ndarray
    """Their posterior standard deviations."""
    sd_of_sum: np.ndarray
    """Those of the fixed plus the random effects."""


def fit_crossed_models(
    groups: GroupSums, levels: np.ndarray, n_levels: Sequence[int], likeness: torch.Tensor
) -> list[MixedModel]:
    """Fit random effects of every factor; with several factors in turn, to what the others leave.

    The factors with the fewest levels come first, so that one whose levels lie within those of
    another does not take its effects; the batch comes last.

    Parameters
    ----------
    groups
        What there is to be explained, for each combination of levels.
    levels
        Level of each combination and factor, ``(n_combinations, n_factors)``.
    n_levels
        Number of levels of each factor.
    likeness
        See :func:`fit_mixed_model`.

    Returns
    -------
    list of MixedModel
        One for each factor. The fixed effects are those of the first.
    """
    scale = np.sqrt(groups.noise())
    models: dict[int, MixedModel] = {}
    for factor in rounds(n_levels):
        others = sum(
            model.loc[levels[:, other]]
            for other, model in sorted(models.items())
            if other != factor
        )
        left = groups.without(others).over(levels[:, factor], n_levels[factor])
        models[factor] = fit_mixed_model(left, likeness, scale)
    return [models[factor] for factor in range(len(n_levels))]


def rounds(n_levels: Sequence[int]) -> list[int]:
    """Factors in the order in which they are fitted in turn: few levels first, the batch last."""
    n_factors = len(n_levels)
    order = [*sorted(range(1, n_factors), key=lambda factor: n_levels[factor]), 0]
    return order * (SWEEPS if n_factors > 1 else 1)


def fit_mixed_model(
    groups: GroupSums, likeness: torch.Tensor, scale: np.ndarray | None = None
) -> MixedModel:
    r"""Fit ``state + (1 | batch) + (0 + state | batch)`` to every gene.

    A state's cells are divided by their standard deviation first: effects on expression are large
    where a gene is expressed, and so is its noise. The variances :math:`\tau_b^2, \tau_d^2` of a
    gene's random effects, and whether the second kind is alike for states that are alike, are
    then a point of a grid. How often each point occurs among the genes is estimated from all of
    them (nonparametric empirical Bayes on the restricted likelihoods, so that many or few genes
    may have no effect at all). Given a point the posterior is Gaussian; a gene's is their mixture.

    Parameters
    ----------
    groups
        What there is to be explained.
    likeness
        Correlation of the effects on states that are alike, ``(n_states, n_states)``.
    scale
        Standard deviation of the cells of each state, states x genes; ``None`` to find it.

    References
    ----------
    Patterson and Thompson, Biometrika 1971 (restricted likelihood); Kiefer and Wolfowitz, Annals
    of Mathematical Statistics 1956, and Stephens, Biostatistics 2017 (the empirical prior).
    """
    scale = np.sqrt(groups.noise()) if scale is None else scale
    means = groups.sums / np.maximum(groups.sizes, 1)[:, :, None] / scale
    sizes, y = torch.from_numpy(groups.sizes), torch.from_numpy(means)
    equations = (MixedEquations(sizes, covariance) for covariance in covariances(likeness))
    evidence = torch.stack([model.evidence(y) for model in equations], 1)
    probabilities = _posterior_of_genes(evidence.numpy())
    posterior = mixture(sizes, y, likeness, torch.from_numpy(probabilities))
    return MixedModel(
        sizes=groups.sizes,
        scale=scale,
        means=means,
        probabilities=probabilities,
        likeness=likeness.numpy(),
        **{name: scale * values.numpy() for name, values in posterior._asdict().items()},
    )


def stacking_weight(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numerator and denominator of the least-squares weight of a second prediction.

    Their quotient, summed over minibatches, is how much of the second prediction to mix into the
    first (Wolpert, Neural Networks 1992).
    """
    difference = second - first
    return np.array([(difference * (truth - first)).sum(), np.square(difference).sum()])


def squared_errors(halves: tuple[GroupSums, GroupSums]) -> tuple[np.ndarray, np.ndarray]:
    """Squared expected residuals of groups, whose cells are in two halves, and their weights.

    The product of two independent means has no noise to take out. Shapes batches x states x genes
    and batches x states x 1.
    """
    first, second = (half.sums / np.maximum(half.sizes, 1)[:, :, None] for half in halves)
    return first * second, (halves[0].sizes * halves[1].sizes)[:, :, None]


def _posterior_of_genes(evidence: np.ndarray) -> np.ndarray:
    """Posterior of each gene over the columns, whose frequencies are estimated."""
    likelihood = np.exp(evidence - evidence.max(1, keepdims=True))
    frequencies = np.full(evidence.shape[1], 1 / evidence.shape[1])
    for _ in range(EM_STEPS):
        posterior = likelihood * frequencies
        posterior /= posterior.sum(1, keepdims=True)
        frequencies = posterior.mean(0)
    return posterior


def _add_by(group: np.ndarray, values: np.ndarray, sums: np.ndarray) -> None:
    """Add each row of the values to that of its group."""
    present, code = np.unique(group, return_inverse=True)
    indicator = sparse.csr_array((np.ones(len(code)), (code, np.arange(len(code)))))
    sums[present] += indicator @ values
