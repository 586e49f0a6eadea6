"""A linear mixed model for each gene, with variances from an empirical prior over all genes."""

from __future__ import annotations

from dataclasses import dataclass
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
        _add_by(group, residuals, self.sums.reshape(n_batch * n_states, -1))
        _add_by(state, np.square(residuals, dtype=float), self.squares)

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
    ratios: np.ndarray
    """Variances of the effects of batches, and on states, relative to the cells', 2 x genes."""
    common: np.ndarray
    """Fixed effects of the states, states x genes."""
    loc: np.ndarray
    """Posterior means of a batch's effects on each state, batches x states x genes."""


def fit_mixed_model(groups: GroupSums) -> MixedModel:
    r"""Fit ``state + (1 | batch) + (1 | batch:state)`` to every gene.

    A state's cells are divided by their standard deviation first: effects on expression are large
    where a gene is expressed, and so is its noise. The variances :math:`\tau_b^2, \tau_d^2` of a
    gene's random effects are then points of a grid. How often each pair occurs among the genes is
    estimated from all of them (nonparametric empirical Bayes on the restricted likelihoods, so
    that many or few genes may have no effect at all); a gene gets its posterior mean, and given
    that the effects have an exact Gaussian posterior.

    References
    ----------
    Patterson and Thompson, Biometrika 1971 (restricted likelihood); Kiefer and Wolfowitz, Annals
    of Mathematical Statistics 1956, and Stephens, Biostatistics 2017 (the empirical prior).
    """
    scale = np.sqrt(groups.noise())
    means = groups.sums / np.maximum(groups.sizes, 1)[:, :, None] / scale
    pairs = np.array(list(product(VARIANCE_RATIOS, repeat=2)))
    evidence = np.stack(
        [_Equations(groups.sizes, means, *p[:, None]).evidence() for p in pairs], 1
    )
    ratios = (_posterior_of_genes(evidence) @ pairs).T
    chunks = np.array_split(np.arange(scale.shape[1]), -(-scale.shape[1] // GENES_PER_CHUNK))
    fitted = [_Equations(groups.sizes, means[:, :, genes], *ratios[:, genes]) for genes in chunks]
    common = np.concatenate([equations.common for equations in fitted], -1)
    loc = np.concatenate([equations.effects() for equations in fitted], -1)
    return MixedModel(groups.sizes, scale, ratios, scale * common, scale * loc)


class _Equations:
    """Mixed-model equations on the means of groups of cells with variance 1.

    Ratios are given for each gene, or are the same for all.
    """

    def __init__(
        self, sizes: np.ndarray, means: np.ndarray, of_batch: np.ndarray, of_state: np.ndarray
    ):
        sizes = sizes[:, :, None]
        self.means, self.of_state = means, of_state
        # With the effect on the state integrated out, a mean varies by 1 / n + ratio.
        self.weights = sizes / (1 + sizes * of_state)
        self.log_weights = np.log(
            self.weights, where=sizes > 0, out=np.zeros_like(self.weights)
        ).sum((0, 1))
        self.rest = 1 + of_batch * self.weights.sum(1)
        self.share = of_batch / self.rest
        by_gene = self.weights.transpose(2, 1, 0)
        information = -(by_gene * self.share.T[:, None]) @ by_gene.transpose(0, 2, 1)
        diagonal = np.arange(by_gene.shape[1])
        # A state without cells has no information and stays at zero.
        information[:, diagonal, diagonal] += self.weights.sum(0).T + MIN_VARIANCE
        weighted = self.weights * means
        of_batches = self.share * weighted.sum(1)
        self.score = (weighted - self.weights * of_batches[:, None]).sum(0)
        self.common = np.linalg.solve(information, self.score.T[..., None])[..., 0].T
        self.log_information = np.linalg.slogdet(information)[1]

    def evidence(self) -> np.ndarray:
        """Restricted log-likelihood of each gene, up to a constant."""
        weighted = self.weights * self.means
        squares = (weighted * self.means).sum((0, 1))
        squares = squares - (self.share * np.square(weighted.sum(1))).sum(0)
        squares = squares - (self.common * self.score).sum(0)
        logs = self.log_weights - np.log(self.rest).sum(0) - self.log_information
        return 0.5 * (logs - squares)

    def effects(self) -> np.ndarray:
        """Posterior means of the effects of batches on states, batches x states x genes."""
        residuals = self.means - self.common
        of_batch = (self.weights * residuals).sum(1) * self.share
        shrinkage = self.weights * self.of_state
        return of_batch[:, None] + shrinkage * (residuals - of_batch[:, None])


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
