"""Solution of a mixed model with nested random intercepts, for known variances."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Solution(NamedTuple):
    """What :meth:`NestedModel.solve` finds for every gene."""

    coefficients: np.ndarray
    """Genes x coefficients."""
    covariance: np.ndarray
    """Their covariance, genes x coefficients x coefficients."""
    evidence: np.ndarray
    """Restricted log-likelihood up to a constant, by gene."""


class Level(NamedTuple):
    """Units of a level of nesting: those below it are absorbed, its own effect is not yet."""

    starts: np.ndarray
    """Where, among the units of the level below, each unit begins."""
    variance: float | np.ndarray
    """Of the level's random effects."""
    weights: np.ndarray
    """Genes x units."""
    sums: np.ndarray
    """Weighted sums, genes x units x quantities."""
    growth: np.ndarray
    """How much more a unit varies with the level's effect, genes x units."""


class NestedModel:
    r"""Equations of ``y ~ X + (1 | row) + (1 | unit) + ...``, for each gene and known variances.

    A row is a sample, or a sample in a state, and has a sampling variance of its own. Levels are
    nested, so that what is left of the equations once one is absorbed are weighted sums again,
    over fewer units: no matrix of all samples is inverted.

    Parameters
    ----------
    response
        Rows x genes.
    noise
        Sampling variance of every response, rows x genes.
    design
        Rows x coefficients, of full rank.
    levels
        For each level of nesting, the finest first, the unit of every row. Rows of a unit follow
        each other.
    """

    def __init__(
        self,
        response: np.ndarray,
        noise: np.ndarray,
        design: np.ndarray,
        levels: Sequence[np.ndarray] = (),
    ):
        n_rows, n_genes = response.shape
        shared = np.broadcast_to(design, (n_genes, *design.shape))
        self.columns = np.concatenate([shared, response.T[:, :, None]], axis=2)
        self.noise = np.ascontiguousarray(noise.T)
        self.starts = [_starts(a, b) for a, b in pairwise([np.arange(n_rows), *levels])]

    def solve(self, variances: Sequence[float | np.ndarray]) -> Solution:
        """Fixed effects, given the variances of the rows and of each level, also genes x 1."""
        weights = 1 / (self.noise + variances[0])
        sums = weights[:, :, None] * self.columns
        products = self.columns.mT @ sums
        log_determinant = -np.log(weights).sum(1)
        for level in self._absorbed(variances, weights, sums):
            shrunk = level.sums * (level.variance / level.growth)[:, :, None]
            products -= level.sums.mT @ shrunk
            log_determinant += np.log(level.growth).sum(1)
        information, score = products[:, :-1, :-1], products[:, :-1, -1]
        covariance = np.linalg.inv(information)
        coefficients = (covariance @ score[:, :, None])[:, :, 0]
        squares = products[:, -1, -1] - (score * coefficients).sum(1)
        log_determinant += np.linalg.slogdet(information).logabsdet
        return Solution(coefficients, covariance, -0.5 * (log_determinant + squares))

    def shares(self, variances: Sequence[float | np.ndarray], contrast: np.ndarray) -> np.ndarray:
        """Share of each unit of the last level in the variance of a contrast, genes x units.

        Parameters
        ----------
        variances
            Of the rows and of each level, of all genes or genes x 1.
        contrast
            Rows of the contrast x coefficients.
        """
        covariance = self.solve(variances).covariance
        root = np.linalg.cholesky(np.linalg.inv(contrast @ covariance @ contrast.T))
        directions = self.columns[:, :, :-1] @ (covariance @ contrast.T @ root)
        weights = 1 / (self.noise + variances[0])
        sums = weights[:, :, None] * directions
        information = (sums * directions).sum(2)
        for level in self._absorbed(variances, weights, sums):
            information = np.add.reduceat(information, level.starts, axis=1)
            information -= level.variance / level.growth * np.square(level.sums).sum(2)
        return information / len(contrast)

    def effects(self, variances: Sequence[float], coefficients: np.ndarray) -> np.ndarray:
        """Sum of the random effects of each row given the fixed ones (BLUP), rows x genes."""
        residuals = self.columns[:, :, -1] - np.einsum(
            "gnp,gp->gn", self.columns[:, :, :-1], coefficients
        )
        weights = 1 / (self.noise + variances[0])
        sums = weights * residuals
        levels = list(self._absorbed(variances, weights, sums[:, :, None]))
        total = np.zeros((len(residuals), 1))
        for i, level in reversed(list(enumerate(levels))):
            left = level.sums[:, :, 0] - level.weights * total
            total = total + level.variance * left / level.growth
            n_inner = (levels[i - 1].weights if i else weights).shape[1]
            total = np.repeat(total, np.diff(np.append(level.starts, n_inner)), axis=1)
        return (total + variances[0] * (sums - weights * total)).T

    def _absorbed(
        self, variances: Sequence[float | np.ndarray], weights: np.ndarray, sums: np.ndarray
    ) -> Iterator[Level]:
        """Sums over the units of each level in turn, once those below it are absorbed.

        Of rows, ``weights`` are genes x rows and weighted ``sums`` genes x rows x quantities.
        """
        for starts, variance in zip(self.starts, variances[1:], strict=True):
            weights, sums = (np.add.reduceat(x, starts, axis=1) for x in (weights, sums))
            growth = 1 + variance * weights
            yield Level(starts, variance, weights, sums, growth)
            weights, sums = weights / growth, sums / growth[:, :, None]


def _starts(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Where, among the units of the inner level, each unit of the outer one begins."""
    first = np.flatnonzero(np.append(True, inner[1:] != inner[:-1]))
    of_units = outer[first]
    return np.flatnonzero(np.append(True, of_units[1:] != of_units[:-1]))
