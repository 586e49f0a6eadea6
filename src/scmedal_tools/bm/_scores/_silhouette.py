"""Silhouette widths of several groupings of the same cells, from one pass over the distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

# Distances held together, 8 MB: what a processor's cache holds.
CHUNK: Final = 2**20


@dataclass(frozen=True)
class Grouping:
    """Clusters of cells, compared with the other clusters of their block only.

    Parameters
    ----------
    clusters
        Code of each cell's cluster, from 0 without gaps; -1 for cells that do not count.
    blocks
        Code of each cell's block, which all cells of its cluster share.
    """

    clusters: np.ndarray
    blocks: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Grouping:
        """All cells in one block; none of them counts if there is one cluster only."""
        clusters, distinct = pd.factorize(values)
        clusters = clusters if len(distinct) > 1 else np.full_like(clusters, -1)
        return cls(clusters, np.zeros_like(clusters))

    @classmethod
    def within(cls, values: np.ndarray, blocks: np.ndarray, min_cells: int) -> Grouping:
        """Clusters of at least ``min_cells`` cells, in blocks that have two of them."""
        block_codes = pd.factorize(blocks)[0]
        pairs = pd.MultiIndex.from_arrays([block_codes, pd.factorize(values)[0]])
        codes, distinct = pairs.factorize()
        large = np.bincount(codes) >= min_cells
        block_of = distinct.get_level_values(0).to_numpy()
        compared = large & (np.bincount(block_of, weights=large)[block_of] > 1)
        new = np.where(compared, np.cumsum(compared) - 1, -1)
        return cls(new[codes], block_codes)

    def parts(self) -> Iterator[np.ndarray]:
        """Cells of every block that count."""
        for block in np.unique(self.blocks[self.clusters >= 0]):
            yield np.flatnonzero((self.blocks == block) & (self.clusters >= 0))


def silhouette_widths(x: np.ndarray, groupings: list[Grouping]) -> list[np.ndarray]:
    r"""Silhouette width of every cell in every grouping, with Euclidean distances.

    ``(b - a) / max(a, b)`` with the mean distances *a* to the other cells of the own cluster and
    *b* to the nearest other cluster of the block; 0 for a cell that is alone in its cluster.

    Parameters
    ----------
    x
        Cells x dimensions.
    groupings
        Groupings of these cells.

    Returns
    -------
    list of numpy.ndarray
        Widths in [-1, 1] for each grouping; NaN for cells that do not count. The distances are
        held for a few cells at a time, never all of them.
    """
    finest = pd.MultiIndex.from_arrays([grouping.clusters for grouping in groupings])
    segments = finest.factorize()[0]
    # With the cells of a segment side by side, sums over clusters are sums over few segments.
    order = np.argsort(segments, kind="stable")
    starts = np.unique(segments[order], return_index=True)[1]
    scorers = [_Scorer(grouping, order, starts) for grouping in groupings]
    # Centred: squared distances are differences of squared lengths, which should be small.
    x = (x - x.mean(axis=0, dtype=np.float64))[order]
    squares = np.square(x).sum(axis=1)
    widths = np.full((len(groupings), len(x)), np.nan)
    n_rows = min(max(1, CHUNK // len(x)), len(x))
    memory = np.empty((n_rows, len(x)))  # new memory for every chunk would take as long again
    for start in range(0, len(x), n_rows):
        rows = np.arange(start, min(start + n_rows, len(x)))
        distances = np.matmul(x[rows], x.T, out=memory[: len(rows)])
        distances *= -2
        distances += squares
        distances += squares[rows, None]
        distances[np.arange(len(rows)), rows] = 0
        np.sqrt(np.maximum(distances, 0, out=distances), out=distances)
        sums = np.add.reduceat(distances, starts, axis=1)
        for own, scorer in zip(widths, scorers, strict=True):
            own[order[rows]] = scorer(rows, sums)
    return list(widths)


class _Scorer:
    """Widths of the ordered cells in one grouping, from their summed distances to segments."""

    def __init__(self, grouping: Grouping, order: np.ndarray, starts: np.ndarray):
        self.clusters, self.blocks = grouping.clusters[order], grouping.blocks[order]
        counted = self.clusters >= 0
        self.sizes = np.bincount(self.clusters[counted])
        self.block_of = np.zeros(len(self.sizes), dtype=int)
        self.block_of[self.clusters[counted]] = self.blocks[counted]
        cluster_of = self.clusters[starts]
        segments = np.flatnonzero(cluster_of >= 0)
        self.members = sparse.csr_array(
            (np.ones(len(segments)), (cluster_of[segments], segments)),
            shape=(len(self.sizes), len(starts)),
        )

    def __call__(self, rows: np.ndarray, sums: np.ndarray) -> np.ndarray:
        counted = self.clusters[rows] >= 0
        widths = np.full(len(rows), np.nan)
        rows, sums = rows[counted], (self.members @ sums[counted].T).T
        own = np.arange(len(rows)), self.clusters[rows]
        others = self.sizes[own[1]] - 1
        within = sums[own] / np.maximum(others, 1)
        means = sums / self.sizes
        means[own] = np.inf
        means[self.block_of != self.blocks[rows, None]] = np.inf
        between = means.min(axis=1, initial=np.inf)
        largest = np.maximum(within, between)
        defined = (others > 0) & (largest > 0)
        widths[counted] = np.where(defined, between - within, 0) / np.where(defined, largest, 1)
        return widths
