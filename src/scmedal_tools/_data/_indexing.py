"""Some cells of a matrix, in memory or in a file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._check_arguments import check_argument, whole
from ._dense import dense


def positions_of(indices: Any, n_obs: int) -> np.ndarray:
    """Positions, counted from the first cell, of those that indices or a mask choose.

    Raises
    ------
    IndexError
        If a mask has another length than the cells, or there is no cell at a position.
    TypeError
        If it is one position.
    """
    indices = np.asarray(indices)
    if not indices.ndim:
        raise TypeError(f"indices={indices} is one position: pass indices=[{indices}].")
    if not indices.size:
        return np.empty(0, dtype=np.int64)
    if indices.dtype == bool and indices.shape != (n_obs,):
        raise IndexError(
            f"A mask of {indices.size:,} values does not fit {n_obs:,} cells: it needs one for "
            "each cell."
        )
    try:
        return np.arange(n_obs)[indices]
    except IndexError as error:
        raise IndexError(
            f"indices are not positions in {n_obs:,} cells, or a mask of them: {error}."
        ) from None


def rows_of(values: Any, positions: np.ndarray) -> np.ndarray:
    """Dense rows at any positions, of an array, a sparse matrix, or one of them in a file."""
    rows, place = np.unique(positions, return_inverse=True)  # a file gives its order only
    return dense(values[rows])[place]


def random_cells(cells: np.ndarray, n_cells: int, seed: int) -> np.ndarray:
    """At most ``n_cells`` of the cells' positions, in order."""
    check_argument("n_cells", n_cells, whole())
    return np.sort(np.random.default_rng(seed).permutation(cells)[:n_cells])
