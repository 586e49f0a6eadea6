"""How well properties of donors are predicted from their cells, beside chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.tl import SIGNIFICANT

from ._common import axes_of, figure_of, plain, save_figure, widest
from ._palette import BLUE, VERMILLION

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from scmedal_tools.bm import DonorPrediction

ROW_INCHES = 0.32
COLOURS = (BLUE, VERMILLION)
NAMES = {"auc": "AUC", "r2": "R²"}


@with_shared_parts
def donor_prediction(
    result: DonorPrediction,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw how well each set of features predicts donors that were left out.

    A row for each set of features and a colour for each method. A point is filled if its p-value
    is at most 0.05, not corrected for the number of points; the grey line beside it is chance.

    Parameters
    ----------
    result
        Result of :func:`scmedal_tools.bm.donor_prediction`.
    metric
        Metric to draw; ``None`` for the first of the result.
    %(ax)s
    %(save)s

    %(axes)s

    Raises
    ------
    KeyError
        If the result has no such metric.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> cells = smt.datasets.simulated(n_donors=8, n_genes=100, n_cell_types=3)
    >>> smt.pp.preprocess(cells, n_top_genes=None)
    >>> found = smt.bm.donor_prediction(
    ...     cells, "donor", "condition", "cell_type", n_permutations=10, progress=False
    ... )
    >>> smt.pl.donor_prediction(found, "auc").get_xlabel()
    'AUC, 8 donors, one left out at a time'
    """
    metrics = list(result.table["metric"].unique())
    metric = metrics[0] if metric is None else metric
    if metric not in metrics:
        raise KeyError(f"There is no metric {metric!r}; there are {', '.join(metrics)}.")
    drawn = result.table[result.table["metric"] == metric]
    rows, methods = drawn["features"].unique(), drawn["method"].unique()
    ax = axes_of(ax, (3.4 + widest(rows, 8), 0.9 + ROW_INCHES * len(rows)))
    for i, (method, colour) in enumerate(zip(methods, COLOURS, strict=False)):
        of_method = drawn[drawn["method"] == method].set_index("features").loc[rows]
        y = np.arange(len(rows)) + 0.3 * (i - (len(methods) - 1) / 2)
        label = "_chance" if i else "chance"  # once in the legend
        ax.vlines(of_method["chance"], y - 0.14, y + 0.14, color="0.6", linewidth=2, label=label)
        faces = np.where(of_method["p_value"] <= SIGNIFICANT, colour, "white")
        ax.scatter(of_method["value"], y, s=30, c=faces, edgecolors=colour, label=method, zorder=3)
    ax.set_yticks(np.arange(len(rows)), map(plain, rows), fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    name, n_donors = NAMES.get(metric, metric.replace("_", " ")), drawn["n_donors"].iloc[0]
    ax.set_xlabel(f"{name}, {n_donors} donors, one left out at a time", fontsize=8)
    ax.tick_params(labelsize=8, length=0)
    ax.grid(axis="x", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    save_figure(figure_of(ax), save)
    return ax
