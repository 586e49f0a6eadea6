"""Solution of a linear mixed model on means of groups of cells, for known variances."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Ratios of the variances of effects to the residual variance that are considered.
VARIANCE_RATIOS = (0.0, 1e-3, 4e-3, 0.016, 0.064, 0.256, 1.0)
# Of the mean squared distance to the nearest other state: how far effects on a state reach.
REACH = 2.0
# Posterior probability of variances that no gene needs.
NEGLIGIBLE = 1e-6
VARIANCES = tuple(
    (of_batch, of_state, alike)
    for of_batch, of_state, alike in product(VARIANCE_RATIOS, VARIANCE_RATIOS, (False, True))
    if of_state or not alike
)
"""Variances of effects of batches, and of batches on a state; whether like states are alike."""


def likeness_of(profiles: Tensor) -> Tensor:
    """Correlation of the effects on states with these profiles, ``(n_states, n_states)``."""
    profiles = profiles.cpu().double()
    squares = torch.cdist(profiles, profiles).square()
    others = squares + torch.diag(torch.full_like(squares[0], torch.inf))
    reach = REACH * others.min(1).values.mean()
    return torch.exp(-squares / (2 * reach)) if 0 < reach < torch.inf else torch.ones_like(squares)


def covariances(likeness: Tensor) -> list[Tensor]:
    """Covariance of a batch's effects on states under each of ``VARIANCES``."""
    one, own = torch.ones_like(likeness), torch.eye(len(likeness), dtype=likeness.dtype)
    return [a * one + b * (likeness if alike else own) for a, b, alike in VARIANCES]


class MixedEquations:
    r"""Equations of ``state + (0 + state | batch)`` on means of cells of variance 1.

    Parameters
    ----------
    sizes
        Number of cells of each batch and state, ``(n_batch, n_states)``.
    covariance
        Covariance of a batch's effects on the states, ``(n_states, n_states)``.
    n_fitted
        Number of batches, the first ones, that the fixed effects are estimated from; ``None`` for
        all.
    """

    def __init__(self, sizes: Tensor, covariance: Tensor, n_fitted: int | None = None):
        self.fitted = slice(n_fitted)
        root = sizes.sqrt()
        scaled = root[:, :, None] * covariance * root[:, None]
        scaled += torch.eye(sizes.shape[1], dtype=sizes.dtype)
        # Inverse covariance of a batch's means; a group without cells has no information.
        self.information = root[:, :, None] * torch.linalg.inv(scaled) * root[:, None]
        self.gain = covariance @ self.information
        empty = torch.diag((sizes[self.fitted].sum(0) == 0).to(sizes))
        of_common = self.information[self.fitted].sum(0) + empty
        self.log_determinants = torch.logdet(scaled)
        # A state without cells stays at zero.
        self.common_covariance = torch.linalg.inv(of_common) - empty
        self.log_determinant = self.log_determinants.sum() + torch.logdet(of_common)
        self.covariance = covariance

    def common(self, means: Tensor) -> Tensor:
        """Fixed effects of the states, ``(n_states, n_genes)``."""
        score = (self.information[self.fitted] @ means[self.fitted]).sum(0)
        return self.common_covariance @ score

    def evidence(self, means: Tensor) -> Tensor:
        """Restricted log-likelihood of each gene, up to a constant."""
        weighted = self.information @ means
        score = weighted.sum(0)
        squares = (means * weighted).sum((0, 1))
        squares -= (score * (self.common_covariance @ score)).sum(0)
        return -0.5 * (self.log_determinant + squares)

    def log_likelihood(self, means: Tensor, common: Tensor) -> Tensor:
        """Log-likelihood of each gene given the fixed effects, up to a constant."""
        residuals = means - common
        squares = (residuals * (self.information @ residuals)).sum((0, 1))
        return -0.5 * (self.log_determinants.sum() + squares)

    def effects(self, means: Tensor, common: Tensor) -> Tensor:
        """Means of the effects given the fixed ones, ``(n_batch, n_states, n_genes)``."""
        return self.gain @ (means - common)

    @cached_property
    def given_common(self) -> Tensor:
        """Covariance of the effects given the fixed ones, ``(n_batch, n_states, n_states)``."""
        return self.covariance - self.gain @ self.covariance

    def variance(self) -> Tensor:
        """Variance of the effects, ``(n_batch, n_states)``."""
        by_common = ((self.gain @ self.common_covariance) * self.gain).sum(2)
        return self.given_common.diagonal(dim1=1, dim2=2) + by_common

    def variance_of_sum(self) -> Tensor:
        """Variance of the fixed plus the random effect, ``(n_batch, n_states)``."""
        left = torch.eye(len(self.covariance), dtype=self.gain.dtype) - self.gain
        by_common = ((left @ self.common_covariance) * left).sum(2)
        return self.given_common.diagonal(dim1=1, dim2=2) + by_common

    def draw_common(self, means: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of the fixed effects."""
        return self.common(means) + _noise(self.common_covariance, means.shape[1:], generator)

    def draw_effects(self, means: Tensor, common: Tensor, generator: torch.Generator) -> Tensor:
        """One draw of the random effects given the fixed ones."""
        return self.effects(means, common) + _noise(self.given_common, means.shape, generator)


def _noise(covariance: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Normal noise with a covariance, which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt()[..., None, :]
    return root @ torch.randn(*shape, generator=generator, dtype=covariance.dtype)


class Mixture(NamedTuple):
    """Posterior of the effects over all variances."""

    common: Tensor
    """Means of the fixed effects, ``(n_states, n_genes)``."""
    loc: Tensor
    """Means of the random effects, ``(n_batch, n_states, n_genes)``."""
    sd: Tensor
    """Standard deviations of the random effects."""
    sd_of_sum: Tensor
    """Standard deviations of the fixed plus the random effects."""


def mixture(sizes: Tensor, means: Tensor, likeness: Tensor, probabilities: Tensor) -> Mixture:
    """Average the posteriors over ``VARIANCES``, with each gene's probabilities of these."""
    common = loc = squares = squares_of_sum = means.new_zeros(())
    for covariance, weight in zip(covariances(likeness), probabilities.T, strict=True):
        if weight.max() < NEGLIGIBLE:
            continue
        equations = MixedEquations(sizes, covariance)
        of_point = equations.common(means)
        effects = equations.effects(means, of_point)
        common = common + weight * of_point
        loc = loc + weight * effects
        squares = squares + weight * (effects.square() + equations.variance()[:, :, None])
        of_sum = (of_point + effects).square() + equations.variance_of_sum()[:, :, None]
        squares_of_sum = squares_of_sum + weight * of_sum
    sd = (squares - loc.square()).clamp_min(0).sqrt()
    sd_of_sum = (squares_of_sum - (common + loc).square()).clamp_min(0).sqrt()
    return Mixture(common, loc, sd, sd_of_sum)


class NewBatches(NamedTuple):
    """Posterior of the effects of batches that were not fitted, given the fixed effects."""

    probabilities: Tensor
    """Of ``VARIANCES`` for each gene, ``(n_genes, n_variances)``."""
    loc: Tensor
    """Means, ``(n_batch, n_states, n_genes)``."""
    sd: Tensor
    """Standard deviations."""


def posterior_of_new(
    sizes: Tensor, means: Tensor, likeness: Tensor, common: Tensor, probabilities: Tensor
) -> NewBatches:
    """Find effects of new batches, with what the fitted ones say of the variances as the prior.

    What that hardly allows remains possible: genes may differ in new batches that did not before.
    """
    evidence, effects, variances = [], [], []
    for covariance in covariances(likeness):
        equations = MixedEquations(sizes, covariance)
        evidence.append(equations.log_likelihood(means, common))
        effects.append(equations.effects(means, common))
        variances.append(equations.given_common.diagonal(dim1=1, dim2=2)[:, :, None])
    prior = probabilities.clamp_min(NEGLIGIBLE).log()
    updated = torch.softmax(prior + torch.stack(evidence, 1), 1)
    loc = sum(p * x for p, x in zip(updated.T, effects, strict=True))
    squares = sum(
        p * (x.square() + v) for p, x, v in zip(updated.T, effects, variances, strict=True)
    )
    return NewBatches(updated, loc, (squares - loc.square()).clamp_min(0).sqrt())
