"""A table that takes the rows of one minibatch after the other."""

from __future__ import annotations

import numpy as np


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
        # Not by torch: numpy asks for huge pages, which are had in half the time.
        self._values = np.empty((*like.shape[:-2], n_cells, like.shape[-1]), dtype=like.dtype)
        if self._n_done:
            self._values[..., : self._n_done, :] = before[..., : self._n_done, :]

    def table(self) -> np.ndarray:
        """All cells."""
        if self._values.shape[-2] == self._n_done:
            return self._values
        return self._values[..., : self._n_done, :].copy()
