"""A linear mixed model for each gene, with variances from an empirical prior over all genes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import sparse

# Ratios of the variances of effects to the residual variance that are considered.
VARIANCE_RATIOS = (0.0, 1e-3, 4e-3, 0.016, 0.064, 0.256, 1.0)
EM_STEPS = 200
# Cells that the variance of all states counts as in that of each state.
PRIOR_CELLS = 10
MIN_VARIANCE = 1e-8
GENES_PER_CHUNK = 1_000


class GroupSums:
    """Sums of residuals over the cells of every batch and state, minibatch by minibatch."""

    def __init__(self, n_batch: int, n_states: int, n_genes: int):
        self.sizes = np.zeros((n_batch, n_states))
        self.sums = np.zeros((n_batch, n_states, n_genes))
        self.squares = np.zeros((n_states, n_genes))

    def add(self, residuals: np.ndarray, batch: np.ndarray, state: np.ndarray) -> None:
        """Count in the residuals (cells x genes) of some cells."""
        n_batch, n_states = self.sizes.shape
        group = batch * n_states + state
        self.sizes += np.bincount(group, minlength=n_batch * n_states).reshape(n_batch, n_states)
        self.sums += _sum_by(group, residuals, n_batch * n_states).reshape(self.sums.shape)
        self.squares += _sum_by(state, np.square(residuals, dtype=float), n_states)

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
    """Posterior of :func:`fit_mixed_model`."""

    common: np.ndarray
    """Fixed effects of the states, states x genes."""
    batch_loc: np.ndarray
    """Means of the effects of batches, batches x genes."""
    batch_sd: np.ndarray
    """Their standard deviations."""
    state_loc: np.ndarray
    """Means of the effects of batches on states, batches x states x genes."""
    state_sd: np.ndarray
    """Their standard deviations, given the effects of the batches."""
    state_shrinkage: np.ndarray
    """By how much they fall as the effect of the batch rises."""

    def averaged(self, other: MixedModel, weight: float) -> MixedModel:
        """Model whose means are, to this share, those of another; the variances stay."""
        names = ("common", "batch_loc", "state_loc")
        means = {
            name: (1 - weight) * getattr(self, name) + weight * getattr(other, name)
            for name in names
        }
        return replace(self, **means)


def fit_mixed_model(groups: GroupSums) -> MixedModel:
    r"""Fit ``state + (1 | batch) + (1 | batch:state)`` to every gene.

    The variances :math:`\tau_b^2, \tau_d^2` of a gene's random effects, relative to its residual
    variance, are points of a grid. How often each pair occurs among the genes is estimated from
    all of them (nonparametric empirical Bayes on the restricted likelihoods, so that many or few
    genes may have no effect at all); a gene then gets its posterior mean, and given that the
    effects have an exact Gaussian posterior.

    References
    ----------
    Patterson and Thompson, Biometrika 1971 (restricted likelihood); Kiefer and Wolfowitz, Annals
    of Mathematical Statistics 1956, and Stephens, Biostatistics 2017 (the empirical prior).
    """
    noise = groups.noise()
    chunks = np.array_split(np.arange(noise.shape[1]), -(-noise.shape[1] // GENES_PER_CHUNK))
    pairs = np.array(list(product(VARIANCE_RATIOS, repeat=2)))
    equations = [_Equations(groups, noise, genes) for genes in chunks]
    evidence = np.concatenate([np.stack([e.evidence(*p) for p in pairs], 1) for e in equations])
    ratios = _posterior_of_genes(evidence) @ pairs
    parts = [e.solve(*ratios[genes].T) for e, genes in zip(equations, chunks, strict=True)]
    names = MixedModel.__dataclass_fields__
    return MixedModel(**{n: np.concatenate([getattr(p, n) for p in parts], -1) for n in names})


class _Equations:
    """Mixed-model equations of some genes on the means of the groups."""

    def __init__(self, groups: GroupSums, noise: np.ndarray, genes: np.ndarray):
        sizes = groups.sizes[:, :, None]
        self.means = groups.sums[:, :, genes] / np.maximum(sizes, 1)
        self.seen = sizes > 0
        self.variances = noise[:, genes] / np.maximum(sizes, 1)
        weights = groups.sizes.sum(0)[:, None]
        self.noise = (noise[:, genes] * weights).sum(0) / weights.sum()

    def evidence(self, batch_ratio, state_ratio) -> np.ndarray:
        """Restricted log-likelihood of each gene, up to a constant."""
        batch_variance, weights, rest, common, (information, score) = self._fit(
            batch_ratio, state_ratio
        )
        log_weights = np.log(weights, where=self.seen, out=np.zeros_like(weights)).sum((0, 1))
        of_batches = (np.square((weights * self.means).sum(1)) * batch_variance / rest).sum(0)
        squares = (weights * np.square(self.means)).sum((0, 1)) - of_batches
        return 0.5 * (
            log_weights
            - np.log(rest).sum(0)
            - np.linalg.slogdet(information)[1]
            - squares
            + (common * score).sum(0)
        )

    def solve(self, batch_ratio, state_ratio) -> MixedModel:
        """Posterior of the effects, given the ratios of the variances."""
        batch_variance, weights, rest, common, _ = self._fit(batch_ratio, state_ratio)
        residuals = self.means - common
        batch_loc = (weights * residuals).sum(1) * batch_variance / rest
        state_variance = state_ratio * self.noise
        shrinkage = weights * state_variance
        return MixedModel(
            common=common,
            batch_loc=batch_loc,
            batch_sd=np.sqrt(batch_variance / rest),
            state_loc=shrinkage * (residuals - batch_loc[:, None]),
            state_sd=np.sqrt(state_variance * (1 - shrinkage)),
            state_shrinkage=shrinkage,
        )

    def _fit(self, batch_ratio, state_ratio):
        """Generalised least squares of the states, with the random effects integrated out."""
        batch_variance = batch_ratio * self.noise
        weights = np.where(self.seen, 1 / (self.variances + state_ratio * self.noise), 0.0)
        rest = 1 + batch_variance * weights.sum(1)
        share = batch_variance / rest  # batches x genes
        by_gene = weights.transpose(2, 1, 0)
        information = -(by_gene * share.T[:, None]) @ by_gene.transpose(0, 2, 1)
        diagonal = np.arange(by_gene.shape[1])
        # A state without cells has no information and stays at zero.
        information[:, diagonal, diagonal] += weights.sum(0).T + MIN_VARIANCE
        weighted = weights * self.means
        score = (weighted - weights * (share * weighted.sum(1))[:, None]).sum(0)
        common = np.linalg.solve(information, score.T[..., None])[..., 0].T
        return batch_variance, weights, rest, common, (information, score)


def stacking_weight(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numerator and denominator of the least-squares weight of a second prediction.

    Their quotient, summed over minibatches, is how much of the second prediction to mix into the
    first (Wolpert, Neural Networks 1992).
    """
    difference = second - first
    return np.array([(difference * (truth - first)).sum(), np.square(difference).sum()])


def _posterior_of_genes(evidence: np.ndarray) -> np.ndarray:
    """Posterior of each gene over the columns, whose frequencies are estimated."""
    likelihood = np.exp(evidence - evidence.max(1, keepdims=True))
    frequencies = np.full(evidence.shape[1], 1 / evidence.shape[1])
    for _ in range(EM_STEPS):
        posterior = likelihood * frequencies
        posterior /= posterior.sum(1, keepdims=True)
        frequencies = posterior.mean(0)
    return posterior


def _sum_by(group: np.ndarray, values: np.ndarray, n_groups: int) -> np.ndarray:
    indicator = sparse.csr_array(
        (np.ones(len(group)), (group, np.arange(len(group)))), shape=(n_groups, len(group))
    )
    return indicator @ values
