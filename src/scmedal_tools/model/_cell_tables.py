"""Tables of cells that are filled minibatch by minibatch."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from scvi import REGISTRY_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

    from scmedal_tools.module import EffectsDraw


class Rows:
    """Array of shape ``(..., n_cells, n_columns)`` that is filled minibatch by minibatch.

    Parameters
    ----------
    n_cells
        Number of cells that will come, 0 if it is not known.
    """

    def __init__(self, n_cells: int):
        self._n_cells, self._n_done = n_cells, 0
        self._values = np.empty((0, 0), dtype=np.float32)

    def add(self, values: np.ndarray) -> None:
        """Add cells."""
        stop = self._n_done + values.shape[-2]
        if stop > self._values.shape[-2]:
            self._make_room(values, stop)
        self._values[..., self._n_done : stop, :] = values
        self._n_done = stop

    def _make_room(self, like: np.ndarray, stop: int) -> None:
        before, n_cells = self._values, self._n_cells if stop <= self._n_cells else 2 * stop
        # Not by torch: numpy asks for huge pages, which are quicker to get.
        self._values = np.empty((*like.shape[:-2], n_cells, like.shape[-1]), dtype=like.dtype)
        if self._n_done:
            self._values[..., : self._n_done, :] = before[..., : self._n_done, :]

    def table(self) -> np.ndarray:
        """All cells."""
        if self._values.shape[-2] == self._n_done:
            return self._values
        return self._values[..., : self._n_done, :].copy()


def collect_tables(
    minibatches: Iterable[dict[str, Tensor]],
    compute: Callable[..., Iterable[Tensor]],
    draws: Iterable[EffectsDraw] | None,
    reduce: Callable[[Tensor], Tensor] | None,
) -> list[np.ndarray]:
    """Apply ``compute``, which gives tables of cells x columns, to every minibatch.

    With draws, which are its argument ``draw``, these are a first axis, unless they are reduced.
    """
    # Those of a data loader of one's own may be fewer or more.
    n_cells = len(getattr(minibatches, "indices", ()))
    found: defaultdict[int, Rows] = defaultdict(lambda: Rows(n_cells))
    for tensors in minibatches:
        tables: Iterable[Tensor]
        if draws is None:
            tables = map(_to_cpu, compute(tensors))
        else:
            drawn = ([_to_cpu(x) for x in compute(tensors, draw=draw)] for draw in draws)
            tables = (torch.stack(of_one) for of_one in zip(*drawn, strict=True))
            tables = tables if reduce is None else map(reduce, tables)
        for i, table in enumerate(tables):
            found[i].add(table.numpy())
    return [rows.table() for rows in found.values()]


def _to_cpu(values: Tensor) -> Tensor:
    return values.detach().float().cpu()


class AsAsked:
    """Minibatches in the order of ``cells``: a file gives those of each in its own order."""

    def __init__(self, minibatches: Iterable[dict[str, Tensor]], cells: np.ndarray):
        self.minibatches, self.indices = minibatches, cells

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        start = 0
        for tensors in self.minibatches:
            stop = start + len(tensors[REGISTRY_KEYS.X_KEY])
            place = self.indices[start:stop].argsort().argsort()
            yield {name: values[place] for name, values in tensors.items()}
            start = stop
