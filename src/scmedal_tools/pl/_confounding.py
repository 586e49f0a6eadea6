"""Number of cells of each batch and cell type or condition, as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import StrMethodFormatter

from scmedal_tools._docs import with_shared_parts

from ._common import axes_of, draw_matrix, figure_of, plain, save_figure, widest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from scmedal_tools.bm import Confounding

CELL_INCHES = (0.5, 0.22)
BAR_INCHES = 1.2


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
    logarithmic scale. The title says how the columns are nested, and below it Cramér's V: from 0,
    independent, to 1, one determines the other.

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
    >>> print(ax.get_title())
    Every donor has only one condition
    Cramér's V 1.00
    """
    pair = next(iter(result.tables)) if pair is None else (pair[0], pair[1])
    if pair not in result.tables:
        raise KeyError(f"{pair} is not a pair of the result, which has {list(result.tables)}.")
    table = result.tables[pair]
    summary = result.summary.set_index(["group", "target"]).loc[pair]
    title = [_sentence(*pair, summary["nesting"], table), f"Cramér's V {summary['cramers_v']:.2f}"]
    n_rows, n_columns = table.shape
    width, height = (
        inches * n for inches, n in zip(CELL_INCHES, (n_columns, n_rows), strict=True)
    )
    width = max(width, widest([*title, pair[1]], 9) + 0.2)
    height = max(height, widest([pair[0]], 9), BAR_INCHES)
    size = width + widest(table.index, 8) + 1.3, height + widest(table.columns, 8) + 0.95
    ax = axes_of(ax, size)
    counts = table.to_numpy()
    # White for no cells: a logarithm has no zero. The range is that of two counts at least.
    norm = LogNorm(1, max(counts.max(), 2))
    image = draw_matrix(ax, table.where(table > 0), "Blues", norm)
    _write_counts(ax, table, image)
    ax.set_ylabel(plain(pair[0]), fontsize=9)
    ax.set_xlabel(plain(pair[1]), fontsize=9)
    ax.set_title(plain("\n".join(title)), fontsize=9)
    bar = figure_of(ax).colorbar(image, ax=ax, format=StrMethodFormatter("{x:,.0f}"))
    bar.set_label("number of cells", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    save_figure(figure_of(ax), save)
    return ax


def _sentence(group: str, target: str, nesting: str, table: pd.DataFrame) -> str:
    if nesting == "partly crossed":
        n_empty = int((table == 0).to_numpy().sum())
        return f"{n_empty:,} of {table.size:,} combinations have no cells"
    return {
        "identical": f"{group} and {target} divide the cells identically",
        "crossed": f"Every {group} has every {target}",
        f"{group} in {target}": f"Every {group} has only one {target}",
        f"{target} in {group}": f"Every {target} occurs in only one {group}",
    }[nesting]


def _write_counts(ax: Axes, table: pd.DataFrame, image: AxesImage) -> None:
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7}
    dark = np.asarray(image.norm(table.to_numpy())) > 0.6
    for row, column in zip(*table.to_numpy().nonzero(), strict=True):
        color = "white" if dark[row, column] else "black"
        ax.text(column, row, f"{table.iat[row, column]:,}", color=color, **style)
