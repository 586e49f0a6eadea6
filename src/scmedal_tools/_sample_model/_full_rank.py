"""Designs in which some coefficients cannot be separated."""

from __future__ import annotations

import numpy as np


def is_estimable(design: np.ndarray, weights: np.ndarray) -> bool:
    """Whether contrasts of the coefficients (rows) are the same for all that fit the data."""
    rank = np.linalg.matrix_rank
    return bool(rank(np.vstack([design, weights])) == rank(design))


def full_rank(design: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of a design that are no combination of those before, and what makes weights of them.

    Parameters
    ----------
    design
        Rows x coefficients.

    Returns
    -------
    Positions of the columns, and the matrix of all coefficients x these columns that turns weights
    of all of them into weights of these, if they are estimable.
    """
    kept: list[int] = []
    for column in range(design.shape[1]):
        if np.linalg.matrix_rank(design[:, [*kept, column]]) > len(kept):
            kept.append(column)
    of_kept = np.linalg.lstsq(design[:, kept], design)[0]
    return np.array(kept), np.linalg.pinv(of_kept)
