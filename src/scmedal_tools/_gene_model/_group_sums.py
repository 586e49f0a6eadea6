"""Sums over groups of cells."""

from __future__ import annotations

from copy import copy

import numpy as np
from scipy import sparse

# Degrees of freedom that the variance of all states counts as in that of each state.
PRIOR_DF = 10
MIN_VARIANCE = 1e-8


class GroupSums:
    """Sums of values of genes over the cells of every batch and state, minibatch by minibatch.

    Parameters
    ----------
    n_batch, n_states, n_genes
        Numbers of batches (or of combinations of levels), states and genes. There is room for
        further batches, once cells of them are added.
    squared
        Also sum the squares, which :meth:`noise` needs.
    """

    def __init__(self, n_batch: int, n_states: int, n_genes: int, squared: bool = True):
        self.squared = squared
        self.sizes = np.zeros((n_batch, n_states))
        self.sums = np.zeros((n_batch, n_states, n_genes))
        self.squares = np.full((n_states, n_genes), 0.0 if squared else np.nan)

    def add(self, values: np.ndarray, batch: np.ndarray, state: np.ndarray) -> None:
        """Count in the values (cells x genes) of some cells."""
        if not len(values):
            return
        self._make_room(batch.max() + 1)
        n_batch, n_states = self.sizes.shape
        group = batch * n_states + state
        self.sizes += np.bincount(group, minlength=n_batch * n_states).reshape(n_batch, n_states)
        _add_by(group, values, self.sums.reshape(n_batch * n_states, -1))
        if self.squared:
            _add_by(state, np.square(values, dtype=float), self.squares)

    def _make_room(self, n_batch: int) -> None:
        missing = max(n_batch - len(self.sizes), 0)
        if missing:
            self.sizes = np.pad(self.sizes, ((0, missing), (0, 0)))
            self.sums = np.pad(self.sums, ((0, missing), (0, 0), (0, 0)))

    @property
    def means(self) -> np.ndarray:
        """Means of the groups, 0 of those without cells, batches x states x genes."""
        return self.sums / np.maximum(self.sizes, 1)[:, :, None]

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

    def last(self, n_batch: int) -> GroupSums:
        """Sums of the last batches alone; squares are not kept."""
        kept = copy(self)
        kept.sizes, kept.sums = self.sizes[-n_batch:], self.sums[-n_batch:]
        kept.squares = np.full_like(self.squares, np.nan)
        return kept

    def noise(self) -> np.ndarray:
        """Variance of the cells of each state around the means of their groups, by gene."""
        squares = self.squares - (self.sizes[:, :, None] * np.square(self.means)).sum(0)
        freedom = self.sizes.sum(0) - (self.sizes > 0).sum(0)
        of_all = squares.sum(0) / max(freedom.sum(), 1)
        shrunk = (squares + PRIOR_DF * of_all) / (freedom + PRIOR_DF)[:, None]
        return np.maximum(shrunk, MIN_VARIANCE)


def _add_by(group: np.ndarray, values: np.ndarray, sums: np.ndarray) -> None:
    """Add each row of the values to that of its group."""
    present, code = np.unique(group, return_inverse=True)
    indicator = sparse.csr_array((np.ones(len(code)), (code, np.arange(len(code)))))
    sums[present] += indicator @ values
