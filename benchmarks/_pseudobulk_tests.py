"""Tests of sums of counts that other packages offer, for comparison; rows are samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special, stats
from statsmodels.nonparametric.smoothers_lowess import lowess

if TYPE_CHECKING:
    from scmedal_tools._sample_model import CountSums

NEWTON_STEPS = 50


def moderated_t(
    values: np.ndarray, design: np.ndarray, contrast: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """P-values of a contrast by limma's moderated t (Smyth 2004), for each gene."""
    weights = np.ones_like(values) if weights is None else weights
    freedom = len(design) - design.shape[1]
    information = np.einsum("ng,np,nq->gpq", weights, design, design)
    inverse = np.linalg.inv(information)
    score = np.einsum("ng,ng,np->gp", weights, values, design)
    coefficients = np.einsum("gpq,gq->gp", inverse, score)
    residuals = values - design @ coefficients.T
    variance = np.maximum((weights * residuals**2).sum(0) / freedom, 1e-10)
    moderated, prior_freedom = _moderate(variance, freedom)
    se = np.sqrt(moderated * np.einsum("p,gpq,q->g", contrast, inverse, contrast))
    return 2 * stats.t.sf(np.abs(coefficients @ contrast / se), freedom + prior_freedom)


def voom_weights(values: np.ndarray, sizes: np.ndarray, design: np.ndarray) -> np.ndarray:
    """Precision of base 2 logarithms of counts per million by their trend (Law et al. 2014)."""
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    freedom = len(design) - design.shape[1]
    root_sd = (((values - fitted) ** 2).sum(0) / freedom) ** 0.25
    to_counts = np.log2(sizes + 1) - np.log2(1e6)
    trend = lowess(root_sd, values.mean(0) + to_counts.mean(), frac=0.5)
    trend = trend[np.unique(trend[:, 0], return_index=True)[1]]
    return np.interp(fitted + to_counts[:, None], *trend.T) ** -4


def of_sums(sums: CountSums, design: np.ndarray, contrast: np.ndarray) -> dict[str, np.ndarray]:
    """P-values of a contrast from the logarithms of sums, without and with their precision."""
    sizes = sums.sizes()
    values = log_cpm(sums.counts, sizes)
    weights = voom_weights(values, sizes, design)
    return {
        "moderated_t": moderated_t(values, design, contrast),
        "voom": moderated_t(values, design, contrast, weights),
    }


def of_donors(
    values: np.ndarray, weights: np.ndarray, kind: np.ndarray, donor: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of donors without what cell types differ by, their weights, and their groups.

    Parameters
    ----------
    values, weights
        Of each sample in each type, rows x genes; without weight where a gene is not measured.
    kind, donor, group
        Type, donor, and group (0 or 1) of each row; types are numbers from 0.
    """
    types = np.eye(kind.max() + 1)[kind]
    matrix = np.column_stack([types, group])
    information = np.einsum("ng,np,nq->gpq", weights, matrix, matrix)
    score = np.einsum("ng,ng,np->gp", weights, values, matrix)
    coefficients = np.einsum("gpq,gq->gp", np.linalg.pinv(information, hermitian=True), score)
    without_types = values - types @ coefficients[:, :-1].T
    _, first, donor = np.unique(donor, return_index=True, return_inverse=True)
    own = np.eye(len(first))[:, donor]
    totals = own @ weights
    means = own @ (weights * without_types) / np.where(totals > 0, totals, 1)
    return means, totals, group[first]


def sizes_by_type(sums: CountSums, kind: np.ndarray) -> np.ndarray:
    """Sizes of samples in each type, beside those of the same type."""
    sizes = np.empty(len(kind))
    for of_type in (kind == k for k in np.unique(kind)):
        sizes[of_type] = sums.of_groups(of_type).sizes()
    return sizes


def log_cpm(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Base 2 logarithms of counts per million."""
    return np.log2((counts + 0.5) / (sizes[:, None] + 1) * 1e6)


def _moderate(variance: np.ndarray, freedom: int) -> tuple[np.ndarray, float]:
    """Variances shrunken to their prior, and its degrees of freedom."""
    z = np.log(variance) - special.digamma(freedom / 2) + np.log(freedom / 2)
    excess = z.var(ddof=1) - special.polygamma(1, freedom / 2)
    if excess <= 0:
        return np.full_like(variance, np.exp(z.mean())), np.inf
    half = 0.5 + 1 / excess
    for _ in range(NEWTON_STEPS):  # the inverse of the trigamma function
        value = special.polygamma(1, half)
        half += value * (1 - value / excess) / special.polygamma(2, half)
    prior = np.exp(z.mean() + special.digamma(half) - np.log(half))
    return (2 * half * prior + freedom * variance) / (2 * half + freedom), 2 * half
