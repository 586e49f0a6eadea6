"""Counts summed over the cells of every sample and state, and how precise they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

CELLS_AT_ONCE = 10_000
# Counts without overdispersion that are added to those of every gene.
PRIOR_COUNTS = 10.0
# Genes that show a sample's size: their mean counts, and how many there have to be. Of fewer those
# that change could be most.
WELL_MEASURED, MANY_GENES = 3.0, 50
# Share of the genes at either end that does not count for a sample's size.
TRIMMED = 0.3
# Precision above which genes count nearly equally: donors vary more than their cells by chance.
FULL_PRECISION = 20.0


class Response(NamedTuple):
    """What a model of samples is fitted to, each groups x genes."""

    values: np.ndarray
    """Natural logarithms of the share that a gene has of all counts."""
    noise: np.ndarray
    """Their variance, as cells are drawn at random from the sample's."""


@dataclass(frozen=True)
class CountSums:
    """Sums over groups of cells, the cells of a sample in a state."""

    counts: np.ndarray
    """Groups x genes."""
    totals: np.ndarray
    """Of all genes, by group."""
    n_cells: np.ndarray
    """By group."""
    squares: np.ndarray
    """Squared deviations of the cells' counts from those expected at the cell's total, corrected
    for the group's own mean; groups x genes."""

    def of_groups(self, groups: np.ndarray) -> CountSums:
        """Sums of some groups alone."""
        return CountSums(*(x[groups] for x in vars(self).values()))

    def of_genes(self, genes: np.ndarray) -> CountSums:
        """Sums of some genes alone; the totals stay those of all."""
        return replace(self, counts=self.counts[:, genes], squares=self.squares[:, genes])

    def overdispersion(self) -> np.ndarray:
        """Variance of a gene's counts between cells of a group, relative to a Poisson's; by gene.

        As a sum over cells it is also that of the group's sums.
        """
        several = self.n_cells > 1
        squares, counts = self.squares[several].sum(0), self.counts[several].sum(0)
        return (squares + PRIOR_COUNTS) / (counts + PRIOR_COUNTS)

    def _overdispersion_by_depth(self) -> np.ndarray:
        """The same by group: what exceeds a Poisson's grows with the counts of a cell."""
        depth = self.totals / self.n_cells
        relative = depth / np.average(depth, weights=self.totals)
        overdispersion = self.overdispersion()
        excess = np.maximum(overdispersion - 1, 0)
        return overdispersion + excess * (relative[:, None] - 1)

    def sizes(self) -> np.ndarray:
        """Totals to which the counts are relative: a trimmed mean over genes of how groups differ.

        A few genes that change a lot leave it as it is, which the plain totals would carry over to
        all others. On average over the groups it is the totals' size. If fewer than 50 genes have
        three counts or more in the mean of the groups it is the plain totals.

        References
        ----------
        Robinson and Oshlack, Genome Biology 2010 (the trimmed mean of M-values).
        """
        measured = self.counts.mean(0) >= WELL_MEASURED
        if measured.sum() < MANY_GENES:
            return self.totals
        sums = self.of_genes(measured)
        values, noise = sums.response(self.totals)
        precision = 1 / noise.mean(0)
        weights = precision / (1 + precision / FULL_PRECISION)
        deviations = values - np.log(sums._shares(self.totals))
        order = deviations.argsort(1)
        ordered = weights[order]
        place = (ordered.cumsum(1) - ordered / 2) / weights.sum()
        kept = ordered * ((place > TRIMMED) & (place < 1 - TRIMMED))
        kept = np.where(kept.sum(1, keepdims=True) > 0, kept, ordered)  # of two genes none is
        log_factors = (kept * np.take_along_axis(deviations, order, 1)).sum(1) / kept.sum(1)
        return self.totals * np.exp(log_factors - log_factors.mean())

    def response(self, sizes: np.ndarray) -> Response:
        """Logarithms of counts relative to sizes, and their variance.

        The added counts are those with which the mean of the logarithm does not depend on how many
        counts there are, so that groups of another depth do not differ for that alone.
        """
        overdispersion = self._overdispersion_by_depth()
        values = np.log((self.counts + overdispersion / 2) / sizes[:, None])
        return Response(values, overdispersion / (sizes[:, None] * self._shares(sizes)))

    def _shares(self, sizes: np.ndarray) -> np.ndarray:
        return (self.counts.sum(0) + 0.5) / sizes.sum()


def sum_counts(
    counts: Any, group: np.ndarray, n_groups: int, totals: np.ndarray | None = None
) -> CountSums:
    """Sum counts by group, some cells at a time.

    Parameters
    ----------
    counts
        Cells x genes, dense, sparse or backed.
    group
        Group of each cell, -1 for none.
    n_groups
        Number of groups, with those without cells.
    totals
        Counts of each cell over all genes; by default the sum of the given counts.
    """
    of_groups, squares_of_totals = np.zeros((2, n_groups))
    y, y_squared, y_total = np.zeros((3, n_groups, counts.shape[1]))
    for start in range(0, len(group), CELLS_AT_ONCE):
        cells = slice(start, start + CELLS_AT_ONCE)
        x = sparse.csr_array(counts[cells], dtype=float)
        total = x.sum(1) if totals is None else totals[cells]
        member = np.flatnonzero(group[cells] >= 0)
        membership = sparse.csr_array(
            (np.ones(len(member)), (group[cells][member], member)), (n_groups, len(total))
        )
        y += membership @ x
        y_squared += membership @ x.power(2)
        y_total += membership @ (sparse.diags_array(total) @ x)
        of_groups += membership @ total
        squares_of_totals += membership @ total**2
    n_cells = np.bincount(group[group >= 0], minlength=n_groups)
    share = y / np.maximum(of_groups, 1)[:, None]
    squares = y_squared - 2 * share * y_total + share**2 * squares_of_totals[:, None]
    squares *= (n_cells / np.maximum(n_cells - 1, 1))[:, None]
    return CountSums(y, of_groups, n_cells, squares)
