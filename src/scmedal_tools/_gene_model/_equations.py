"""Solution of a linear mixed model on means of groups of cells, for known variances."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Ratios of the variances of effects to the residual variance that are considered. The smallest is
# that of effects that do not matter: were they exactly 0, their intervals would be points, which
# miss what is nearly 0.
VARIANCE_RATIOS = (2.5e-4, 1e-3, 4e-3, 0.016, 0.064, 0.256, 1.0)
# Means of groups that are worked on at once, 2 MiB.
VALUES_AT_ONCE = 2**18
# Squared length scale, of the mean squared distance to the nearest other state.
LENGTH_SCALE = 2.0
VARIANCES = tuple(
    (of_batch, of_state, correlated)
    for of_batch, of_state, correlated in product(VARIANCE_RATIOS, VARIANCE_RATIOS, (False, True))
    if of_state > VARIANCE_RATIOS[0] or not correlated
)
"""Variances of effects of batches, and of batches on a state; whether those on similar states are
correlated. The first are those of effects that do not matter."""


def state_correlation(profiles: Tensor) -> Tensor:
    """Correlation of the effects on states with these profiles, ``(n_states, n_states)``.

    States whose profile is not known, NaN, are as the average of the others.
    """
    profiles = profiles.cpu().double()
    known = ~profiles.isnan().any(1)
    profiles = torch.where(known[:, None], profiles, profiles[known].mean(0))
    squares = torch.cdist(profiles, profiles).square()
    others = squares[known][:, known].fill_diagonal_(torch.inf)
    scale = LENGTH_SCALE * others.min(1).values.mean()
    return torch.exp(-squares / (2 * scale)) if 0 < scale < torch.inf else torch.ones_like(squares)


def covariance_of(point: int, correlation: Tensor) -> Tensor:
    """Covariance of a batch's effects on states under the variances at a point of the grid."""
    of_batch, of_state, correlated = VARIANCES[point]
    own = torch.eye(len(correlation), dtype=correlation.dtype)
    return of_batch + of_state * (correlation if correlated else own)


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
        of_fixed = self.information[self.fitted].sum(0) + empty
        self._scaled, self._of_fixed = scaled, of_fixed
        # A state without cells stays at zero.
        self.fixed_covariance = torch.linalg.inv(of_fixed) - empty
        self.covariance = covariance
        # Groups without cells have no weight in the gain.
        self.standard_errors = sizes.clamp_min(1).rsqrt()[:, :, None]

    def fixed(self, means: Tensor) -> Tensor:
        """Fixed effects of the states, ``(n_states, n_genes)``."""
        # Symmetric for each batch: one product of large matrices.
        information = self.information[self.fitted].flatten(0, 1)
        return self.fixed_covariance @ (information.T @ means[self.fitted].flatten(0, 1))

    @cached_property
    def log_determinant(self) -> Tensor:
        """Log determinant in the restricted likelihood, a scalar."""
        return torch.logdet(self._scaled).sum() + torch.logdet(self._of_fixed)

    def log_likelihood(self, means: Tensor, fixed: Tensor) -> Tensor:
        """Log-likelihood of each gene given the fixed effects, up to a constant."""
        residuals = means - fixed
        squares = (residuals * (self.information @ residuals)).sum((0, 1))
        return -0.5 * (torch.logdet(self._scaled).sum() + squares)

    def effects(self, means: Tensor, fixed: Tensor) -> Tensor:
        """Means of the effects given the fixed ones, ``(n_batch, n_states, n_genes)``."""
        return self.gain @ (means - fixed)

    @cached_property
    def given_fixed(self) -> Tensor:
        """Covariance of the effects given the fixed ones, ``(n_batch, n_states, n_states)``."""
        return self.covariance - self.gain @ self.covariance

    @cached_property
    def covariance_of_effects(self) -> Tensor:
        """Covariance of a batch's effects, ``(n_batch, n_states, n_states)``."""
        return self.given_fixed + self.gain @ self.fixed_covariance @ self.gain.mT

    def variance_of_effects(self) -> Tensor:
        """Variance of the random effects, ``(n_batch, n_states)``."""
        return self.covariance_of_effects.diagonal(dim1=1, dim2=2)

    def variance_of_sum(self) -> Tensor:
        """Variance of the fixed plus the random effect, ``(n_batch, n_states)``."""
        left = torch.eye(len(self.covariance), dtype=self.gain.dtype) - self.gain
        by_fixed = ((left @ self.fixed_covariance) * left).sum(2)
        return self.given_fixed.diagonal(dim1=1, dim2=2) + by_fixed

    def draw_fixed(self, means: Tensor, generator: torch.Generator, spread: float = 1.0) -> Tensor:
        """One draw of the fixed effects, of which ``spread`` widens the posterior."""
        noise = _noise(self.fixed_covariance, means.shape[1:], generator)
        return self.fixed(means) + spread * noise

    def draw_effects(
        self, means: Tensor, fixed: Tensor, generator: torch.Generator, spread: float = 1.0
    ) -> Tensor:
        """One draw of the random effects given the fixed ones.

        A draw from the prior is moved by what its own simulated means teach, which needs no
        factor of each batch's covariance (Matheron's rule).
        """
        prior = _noise(self.covariance, means.shape, generator)
        error = torch.randn(means.shape, generator=generator, dtype=means.dtype)
        simulated = prior + self.standard_errors * error
        return self.effects(means, fixed) + spread * (prior - self.gain @ simulated)


def restricted_likelihoods(equations: Sequence[MixedEquations], means: Tensor) -> Tensor:
    """Restricted log-likelihoods of each gene, up to a constant, ``(n_genes, n_equations)``.

    All equations share the products of a batch's means, so that two products of large matrices do
    the work.
    """
    n_points, n_states = len(equations), means.shape[1]
    first, second = torch.triu_indices(n_states, n_states)
    twice = 2.0 - 1.0 * (first == second)
    information = [of_point.information for of_point in equations]
    of_products = torch.stack([(x[:, first, second] * twice).flatten() for x in information])
    of_means = torch.cat([x.transpose(0, 1).flatten(1) for x in information])
    fixed_covariance = torch.stack([of_point.fixed_covariance for of_point in equations])
    log_determinant = torch.stack([of_point.log_determinant for of_point in equations])
    squares = []
    for part in some_genes(means):
        score = (of_means @ part.flatten(0, 1)).unflatten(0, (n_points, n_states))
        of_fixed = (score * (fixed_covariance @ score)).sum(1)
        squares.append(of_products @ (part[:, first] * part[:, second]).flatten(0, 1) - of_fixed)
    return -0.5 * (log_determinant + torch.cat(squares, 1).T)


def some_genes(means: Tensor) -> tuple[Tensor, ...]:
    """Parts of batches x states x genes that the processor's cache has room for."""
    n_groups = means.shape[0] * means.shape[1]
    return means.split(max(1, VALUES_AT_ONCE // n_groups), dim=2)


def _noise(covariance: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Normal noise with a covariance, which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt()[..., None, :]
    return root @ torch.randn(*shape, generator=generator, dtype=covariance.dtype)
