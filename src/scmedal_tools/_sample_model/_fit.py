"""Contrasts of all genes, over variances between samples with an empirical prior."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from scmedal_tools._gene_model import NEGLIGIBLE, posterior_over_genes

from ._full_rank import full_rank
from ._nested import NestedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._counts import Response

SMALLEST = 4e-4  # samples that differ by 2 %
# Variances of natural logarithms that are considered, the largest about 1: the more levels of
# nesting, the fewer.
STEPS = {1: (2, 12), 2: (4, 6), 3: (8, 5)}
# Standard deviations of the effects that are considered: none, and 4 % to twelvefold.
EFFECTS = np.append(0.0, 0.04 * 2.0 ** np.arange(7))
# Genes without an effect that are counted in: where the data do not show one, there is none.
FURTHER_GENES = np.append(10.0, np.zeros(7))
GENES_AT_ONCE = 500
SMALLEST_EXCESS = 1e-6
# Excess kurtosis of how donors deviate, chosen on null data sets: some genes have outliers.
KURTOSIS = 3.0


@dataclass(frozen=True)
class Estimates:
    """A contrast at every point of the grid of variances."""

    probabilities: np.ndarray
    """Posterior of the points, genes x points."""
    values: np.ndarray
    """Genes x points x rows of the contrast."""
    covariances: np.ndarray
    """Genes x points x rows x rows."""
    df: np.ndarray
    """Degrees of freedom of the contrast given the variances, by gene."""

    def of_genes(self, genes: np.ndarray) -> Estimates:
        """Those of some genes."""
        return Estimates(**{name: x[genes] for name, x in vars(self).items()})

    @property
    def t_variance(self) -> np.ndarray:
        """Variance of Student's t, by gene."""
        return self.df / (self.df - 2)

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean of a contrast of one row, by gene."""
        return (self.probabilities * self.values[:, :, 0]).sum(1)

    @property
    def sd(self) -> np.ndarray:
        """Its standard error, the uncertainty of the variances included."""
        squares = self.covariances[:, :, 0, 0] + self.values[:, :, 0] ** 2
        return np.sqrt((self.probabilities * squares).sum(1) - self.mean**2)

    def p_values(self) -> np.ndarray:
        """Two-sided p-value of each gene, averaged over the posterior of the variances."""
        df, t_variance = self.df[:, None], self.t_variance[:, None]
        n_rows = self.values.shape[2]
        if n_rows > 1:
            solved = np.linalg.solve(self.covariances, self.values[..., None])[..., 0]
            wald = (self.values * solved).sum(2)
            tails = stats.f.sf(wald / n_rows * t_variance, n_rows, df)
            return (self.probabilities * tails).sum(1)
        t = self.values[:, :, 0] / np.sqrt(self.covariances[:, :, 0, 0] / t_variance)
        below, above = ((self.probabilities * stats.t.sf(s * t, df)).sum(1) for s in (1, -1))
        return np.minimum(2 * np.minimum(below, above), 1.0)

    def lfsr(self, extent: float = 1.0) -> np.ndarray:
        """Local false sign rate: probability that the effect has not the sign that it seems to.

        Effects of genes are zero or normal around it, with frequencies of the standard deviations
        that are estimated from all genes. ``extent`` is how far samples are apart, the range of a
        number, so that its unit makes no difference. Outliers count in how likely an effect is at
        all; the sign of one that there is, is taken from the normal posterior.

        References
        ----------
        Stephens, Biostatistics 2017.
        """
        value, variance = self.values[:, :, 0, None], self.covariances[:, :, 0, 0, None]
        prior = (EFFECTS / extent) ** 2
        # Genes x points x effects.
        scale = np.sqrt((variance + prior) / self.t_variance[:, None, None])
        likelihood = stats.t.pdf(value, self.df[:, None, None], scale=scale)
        joint = self.probabilities[:, :, None] * likelihood
        evidence = np.log(np.maximum(joint.sum(1), 1e-300))
        of_effects = posterior_over_genes(evidence, FURTHER_GENES)
        joint *= (of_effects / np.maximum(joint.sum(1), 1e-300))[:, None]
        posterior_mean = value * prior / (prior + variance)
        posterior_sd = np.sqrt(prior * variance / (prior + variance))[:, :, 1:]
        z = posterior_mean[:, :, 1:] / posterior_sd
        negative, positive = (
            (joint[:, :, 1:] * stats.norm.sf(s * z)).sum((1, 2)) for s in (1, -1)
        )
        return np.clip(1 - np.maximum(negative, positive), 0, 1)


@dataclass(frozen=True)
class SampleFit:
    """Result of :func:`fit_samples`."""

    contrasts: list[Estimates]
    """One for each contrast that was asked for."""
    effects: np.ndarray
    """Posterior mean of the random effects of each row, given the fixed ones, rows x genes."""
    fixed: np.ndarray
    """Posterior mean of the fixed effects of each row, rows x genes."""


def variances(n_levels: int) -> list[tuple[float, ...]]:
    """Variances that are considered, of the rows and of ``n_levels - 1`` further levels."""
    factor, n = STEPS[n_levels]
    return list(product(SMALLEST * float(factor) ** np.arange(n), repeat=n_levels))


def fit_samples(
    response: Response,
    design: np.ndarray,
    levels: Sequence[np.ndarray],
    contrasts: Sequence[np.ndarray],
) -> SampleFit:
    r"""Fit ``y ~ design + (1 | row) + (1 | level) + ...`` to every gene.

    The variances of a gene's random effects are a point of a grid; how often each point occurs
    among the genes is estimated from all of them, on the restricted likelihoods. Given a point,
    the coefficients are normal. What is found is averaged over the posterior of the points, as
    Student's t is a normal averaged over the posterior of its variance.

    Parameters
    ----------
    response
        Values and their sampling variances, rows x genes.
    design
        Rows x coefficients. Some of them may be the same in all rows, or a combination of others.
    levels
        For each level of nesting, the finest first, the unit of every row.
    contrasts
        Each rows of the contrast x coefficients; estimable.

    References
    ----------
    Patterson and Thompson, Biometrika 1971; Kiefer and Wolfowitz, Annals of Mathematical
    Statistics 1956; Smyth, Statistical Applications in Genetics 2004 (what the prior is for).
    """
    columns, of_all = full_rank(design)
    design, contrasts = design[:, columns], [weights @ of_all for weights in contrasts]
    grid = variances(1 + len(levels))
    n_genes = response.values.shape[1]
    blocks = [slice(i, i + GENES_AT_ONCE) for i in range(0, n_genes, GENES_AT_ONCE)]
    values, noise = response
    models = [NestedModel(values[:, b], noise[:, b], design, levels) for b in blocks]
    evidence, found = [], []
    for model in models:
        solutions = [model.solve(point) for point in grid]
        evidence.append(np.stack([s.evidence for s in solutions], 1))
        coefficients = np.stack([s.coefficients for s in solutions], 1)
        of_contrasts = [
            (coefficients @ c.T, np.stack([c @ s.covariance @ c.T for s in solutions], 1))
            for c in contrasts
        ]
        found.append((coefficients, of_contrasts))
    probabilities = posterior_over_genes(np.concatenate(evidence))
    typical = (probabilities @ np.array(grid)).T[:, :, None]  # mean variances, by gene
    estimates = []
    for contrast, *parts in zip(contrasts, *(of for _, of in found), strict=True):
        of_points, covariances = (np.concatenate(x) for x in zip(*parts, strict=True))
        df = [
            _df(model.shares(typical[:, block], contrast), len(contrast))
            for model, block in zip(models, blocks, strict=True)
        ]
        estimates.append(Estimates(probabilities, of_points, covariances, np.concatenate(df)))
    fixed, effects = [], []
    for model, block, (coefficients, _) in zip(models, blocks, found, strict=True):
        weights = probabilities[block].T
        mean = np.einsum("mg,gmp->gp", weights, coefficients)
        fixed.append(design @ mean.T)
        effects.append(
            sum(
                w * model.effects(point, c)
                for w, point, c in zip(weights, grid, coefficients.swapaxes(0, 1), strict=True)
                if w.max() > NEGLIGIBLE
            )
        )
    return SampleFit(estimates, np.concatenate(effects, 1), np.concatenate(fixed, 1))


def _df(shares: np.ndarray, n_rows: int) -> np.ndarray:
    """Degrees of freedom of a contrast, where donors deviate with outliers.

    The fewer donors decide about it, the more it has the tails of a single donor, and the less
    its variance can be seen in residuals. Tests of a number that is normal over donors, and of
    groups that are not much smaller than others, are right without a correction.

    Parameters
    ----------
    shares
        Share of each donor in its variance, genes x donors.
    n_rows
        Rows of the contrast.

    References
    ----------
    Box and Watson, Biometrika 1962 (regressors that make tests sensitive to kurtosis). Mardia's
    kurtosis of a sum over donors is set equal to that of a multivariate t.
    """
    of_normal = (n_rows + 2) / (n_rows * (shares.shape[1] + 2))
    excess = np.maximum(np.square(shares).sum(1) - of_normal, SMALLEST_EXCESS)
    return 4 + 2 * (n_rows + 2) / (KURTOSIS * n_rows * excess)
