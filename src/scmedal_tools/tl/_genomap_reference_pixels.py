"""The original genomap package, run as it is."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import pairwise_distances

from scmedal_tools._data import dense
from scmedal_tools._how_to_install import how_to_install

LICENCE = (
    "The original genomap package is licensed under CC BY-NC-ND: for non-commercial use only. "
    "layout='rings' has the same objective and no such limit."
)


def genomap_reference_pixels(x: Any, shape: tuple[int, int], n_iter: int) -> np.ndarray:
    """Pixel of each gene, row by row, in the layout of the original package.

    Parameters
    ----------
    x
        Expression, cells x genes.
    shape
        Rows and columns; as many pixels as genes.
    n_iter
        Iterations of the package.

    Raises
    ------
    ImportError
        If the package is not installed.
    ValueError
        If genes are constant, there are more pixels than genes, or the result is no layout.
    """
    try:
        from genomap import construct_genomap
    except ImportError as error:
        raise ImportError(
            "layout='genomap' needs the original package, for non-commercial use only. "
            + how_to_install("genomap-reference")
        ) from error
    warnings.warn(LICENCE, UserWarning, stacklevel=3)
    x = np.asarray(dense(x), dtype=np.float64)
    if (sd := x.std(axis=0)).min() == 0:
        raise ValueError(
            f"{(sd == 0).sum()} genes are the same in all cells, which layout='genomap' cannot "
            "take: drop them, or use another layout."
        )
    if x.shape[1] != math.prod(shape):
        raise ValueError(
            f"layout='genomap' fills all pixels, and {shape} has not {x.shape[1]:,}: choose as "
            "many genes as pixels, or another layout."
        )
    x = (x - x.mean(axis=0)) / sd
    images = np.asarray(construct_genomap(x, *shape, epsilon=0.0, num_iter=n_iter))
    # It gives images only, and leaves the last one empty: genes are known by their values, which
    # may be rounded.
    values = images.reshape(len(x), -1)[:-1]
    squared = pairwise_distances(x[:-1].T, values.T, metric="sqeuclidean")
    _, pixels = linear_sum_assignment(squared)
    if not np.allclose(x[:-1], values[:, pixels], atol=1e-6):
        raise ValueError(
            "The last transport problem of the genomap package did not converge, so that some "
            "pixels mix genes. Try another max_iter, or layout='rings'."
        )
    return pixels
