"""For which cells and donors a counterfactual is supported by measured cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import Normalize

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.model import LEAST_SUPPORTED

from ._common import axes_of, draw_matrix, figure_of, save_figure, widest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

CELL_INCHES = (0.4, 0.24)


@with_shared_parts
def admissibility(
    supported: pd.DataFrame,
    labels: pd.Series,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the share of the cells of every group that have support in every donor.

    Fields of which less than half has support are white: there a counterfactual is an
    extrapolation.

    Parameters
    ----------
    supported
        Result of :func:`scmedal_tools.tl.admissibility`.
    labels
        Group of each cell, such as ``adata.obs["cell_type"]``.
    %(ax)s
    %(save)s

    %(axes)s

    Raises
    ------
    ValueError
        If a cell has no label.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> supported = smt.tl.admissibility(model)
    >>> ax = smt.pl.admissibility(supported, adata.obs["cell_type"])
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['type_1', 'type_2', 'type_3']
    """
    labels = labels.reindex(supported.index)
    if labels.isna().any():
        raise ValueError(f"labels: {labels.isna().sum():,} of {len(labels):,} cells have none.")
    shares = supported.groupby(labels.astype(str)).mean()
    n_rows, n_columns = shares.shape
    size = (
        CELL_INCHES[0] * n_columns + widest(shares.index, 8) + 0.5,
        CELL_INCHES[1] * n_rows + widest(shares.columns, 8) + 0.95,
    )
    ax = axes_of(ax, size)
    draw_matrix(ax, shares.where(shares >= LEAST_SUPPORTED), "Blues", Normalize(0, 1))
    for row, column in np.ndindex(shares.shape):
        share = shares.iat[row, column]
        color = "white" if share > 0.6 else "black"
        ax.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=6, color=color)
    ax.set_title("share of cells with support\n(white: less than half)", fontsize=9)
    save_figure(figure_of(ax), save)
    return ax
