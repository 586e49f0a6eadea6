"""Number of cells of each batch and cell type or condition, as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm

from scmedal_tools._docs import with_shared_parts

from ._common import axes_of, draw_matrix, figure_of, plain, save_figure, widest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from scmedal_tools.bm import Confounding

CELL_INCHES = (0.5, 0.22)


@with_shared_parts
def confounding(
    result: Confounding,
    pair: tuple[str, str] | None = None,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the number of cells in every combination of two columns.

    Combinations without cells are white and have no number. Darker fields have more cells, on a
    logarithmic scale. The title gives Cramér's V and how the columns are nested.

    Parameters
    ----------
    result
        Result of :func:`scmedal_tools.bm.confounding`.
    pair
        Columns of the rows and of the columns, one of ``result.tables``; by default the first, the
        batch and the first target.
    %(ax)s
    %(save)s

    %(axes)s

    Raises
    ------
    KeyError
        If the result has no such pair of columns.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> ax = smt.pl.confounding(smt.bm.confounding(adata, "donor", ["condition"]))
    >>> ax.get_title()
    "Cramér's V 1.00, donor in condition"
    """
    pair = next(iter(result.tables)) if pair is None else (pair[0], pair[1])
    if pair not in result.tables:
        raise KeyError(f"{pair} is not a pair of the result, which has {list(result.tables)}.")
    table = result.tables[pair]
    summary = result.summary.set_index(["group", "target"]).loc[pair]
    n_rows, n_columns = table.shape
    title = f"Cramér's V {summary['cramers_v']:.2f}, {summary['nesting']}"
    width, height = (
        inches * n for inches, n in zip(CELL_INCHES, (n_columns, n_rows), strict=True)
    )
    width = max(width, widest([title, pair[1]], 9) + 0.2)
    height = max(height, widest([pair[0]], 9))
    size = width + widest(table.index, 8) + 0.5, height + widest(table.columns, 8) + 0.8
    ax = axes_of(ax, size)
    counts = table.to_numpy()
    # White for no cells: a logarithm has no zero. The range is that of two counts at least.
    norm = LogNorm(1, max(counts.max(), 2))
    image = draw_matrix(ax, table.where(table > 0), "Blues", norm)
    _write_counts(ax, table, image)
    ax.set_ylabel(plain(pair[0]), fontsize=9)
    ax.set_xlabel(plain(pair[1]), fontsize=9)
    ax.set_title(plain(title), fontsize=9)
    save_figure(figure_of(ax), save)
    return ax


def _write_counts(ax: Axes, table: pd.DataFrame, image: AxesImage) -> None:
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
    dark = np.asarray(image.norm(table.to_numpy())) > 0.6
    for row, column in zip(*table.to_numpy().nonzero(), strict=True):
        color = "white" if dark[row, column] else "black"
        ax.text(column, row, f"{table.iat[row, column]:,}", color=color, **style)
