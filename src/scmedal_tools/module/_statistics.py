"""Statistics of the training cells, which a network is given before it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import stats

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ExpressionStatistics:
    """Moments of each gene, range of the matrix and frequencies of the levels."""

    mean: np.ndarray
    """Mean of each gene, shape ``(n_genes,)``."""
    variance: np.ndarray
    """Variance of each gene, shape ``(n_genes,)``."""
    minimum: float
    maximum: float
    cells_per_level: list[np.ndarray]
    """Number of training cells of each level, for the batch and further factors."""

    @property
    def n_cells(self) -> int:
        """Number of training cells."""
        return int(self.cells_per_batch.sum())

    @property
    def cells_per_batch(self) -> np.ndarray:
        """Number of training cells of each batch, shape ``(n_batch,)``."""
        return self.cells_per_level[0]

    @property
    def batch_entropy(self) -> float:
        """Entropy of the batch label in nats; with further factors the sum of their entropies."""
        return float(sum(stats.entropy(cells) for cells in self.cells_per_level))
