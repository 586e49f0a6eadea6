"""Means of what is logged, over the cells of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor


class MinibatchMeans(NamedTuple):
    """Means over the cells of a minibatch of several quantities, together in one tensor."""

    names: tuple[str, ...]
    values: Tensor

    @classmethod
    def of(cls, means: dict[str, Tensor]) -> Self:
        """Put scalars together; a sum of many does not fit the lower precisions."""
        return cls(tuple(means), torch.stack([mean.detach().float() for mean in means.values()]))


class EpochMeans:
    """Weighted means that are asked for once an epoch.

    Lightning's work for every logged value of every minibatch is saved, and sums stay on the
    device until the epoch ends.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self.n_cells = 0

    def add(self, means: MinibatchMeans, n_cells: int) -> None:
        """Count in a minibatch."""
        of_cells = n_cells * means.values
        self.names = means.names
        self._sums = of_cells if self._sums is None else self._sums + of_cells
        self.n_cells += n_cells

    def take(self) -> dict[str, Tensor]:
        """Means so far; the next epoch starts from nothing."""
        if self._sums is None:
            return {}
        means = dict(zip(self.names, self._sums / self.n_cells, strict=True))
        self._sums, self.n_cells = None, 0
        return means
