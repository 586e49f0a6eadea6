"""Solution of a linear mixed model on means of groups of cells, for known variances."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

# Ratios of the variances of effects to the residual variance that are considered.
VARIANCE_RATIOS = (0.0, 1e-3, 4e-3, 0.016, 0.064, 0.256, 1.0, 4.0, 16.0)
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
    profiles = profiles.double().cpu()
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

    def log_likelihood_of_new(self, means: Tensor, common: Tensor) -> Tensor:
        """Log-likelihood of each gene in the batches not fitted, up to a constant."""
        new = slice(self.fitted.stop, None)
        residuals = means[new] - common
        squares = (residuals * (self.information[new] @ residuals)).sum((0, 1))
        return -0.5 * (self.log_determinants[new].sum() + squares)

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

    def draw(self, means: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One draw of the fixed effects and of the random ones."""

        def deviations(covariance: Tensor, *shape: int) -> Tensor:
            values, vectors = torch.linalg.eigh(covariance)
            root = vectors * values.clamp_min(0).sqrt()[..., None, :]
            return root @ torch.randn(*shape, generator=generator, dtype=means.dtype)

        common = self.common(means) + deviations(self.common_covariance, *means.shape[1:])
        return common, self.effects(means, common) + deviations(self.given_common, *means.shape)


class Mixture(NamedTuple):
    """Posterior of the effects over all variances."""

    common: Tensor
    """Means of the fixed effects, ``(n_states, n_genes)``."""
    loc: Tensor
    """Means of the random effects, ``(n_batch, n_states, n_genes)``."""
    sd: Tensor
    """Standard deviations of the random effects."""


def mixture(
    sizes: Tensor,
    means: Tensor,
    likeness: Tensor,
    probabilities: Tensor,
    n_fitted: int | None = None,
) -> Mixture:
    """Average the posteriors over ``VARIANCES``, with each gene's probabilities of these."""
    common, loc, squares = 0.0, 0.0, 0.0
    for covariance, weight in zip(covariances(likeness), probabilities.T, strict=True):
        if weight.max() < NEGLIGIBLE:
            continue
        equations = MixedEquations(sizes, covariance, n_fitted)
        of_point = equations.common(means)
        effects = equations.effects(means, of_point)
        common = common + weight * of_point
        loc = loc + weight * effects
        squares = squares + weight * (effects.square() + equations.variance()[:, :, None])
    return Mixture(common, loc, (squares - loc.square()).clamp_min(0).sqrt())


def probabilities_of_new(
    sizes: Tensor, means: Tensor, likeness: Tensor, probabilities: Tensor, n_fitted: int
) -> Tensor:
    """Probabilities of ``VARIANCES`` for the batches not fitted, given what the others say.

    What these hardly allow remains possible: genes may differ in new batches that did not before.
    """
    evidence = []
    for covariance in covariances(likeness):
        equations = MixedEquations(sizes, covariance, n_fitted)
        evidence.append(equations.log_likelihood_of_new(means, equations.common(means)))
    prior = probabilities.clamp_min(NEGLIGIBLE).log()
    return torch.softmax(prior + torch.stack(evidence, 1), 1)
