"""Means of what is logged, over the cells of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class EpochMeans:
    """Weighted means that are asked for once an epoch.

    Lightning's work for every logged value of every minibatch is saved, and sums stay on the
    device until the epoch ends.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self.n_cells = 0

    def add(self, means: dict[str, Tensor], n_cells: int) -> None:
        """Count in the means over the cells of a minibatch."""
        for name, mean in means.items():
            # A sum of many minibatches does not fit the lower precisions.
            of_cells = n_cells * mean.detach().float()
            self._sums[name] = self._sums[name] + of_cells if name in self._sums else of_cells
        self.n_cells += n_cells

    def take(self) -> dict[str, Tensor]:
        """Means so far; the next epoch starts from nothing."""
        means = {name: total / self.n_cells for name, total in self._sums.items()}
        self._sums, self.n_cells = {}, 0
        return means
