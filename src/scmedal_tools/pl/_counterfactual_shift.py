"""How good predicted shifts are, beside baselines and the ceiling set by noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.bm import per_combination

from ._common import new_figure, plain, save_figure, widest
from ._palette import BLUE, VERMILLION

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each score with what it would be at best, and the widest range that is drawn: of a few cells
# slope and error can be anything.
PERFECT = {"correlation": 1.0, "slope": 1.0, "error": 0.0}
WIDEST = {"correlation": (-1.0, 1.0), "slope": (-0.5, 2.5), "error": (-0.5, 2.0)}
NAMES = {"slope": "slope (measured on predicted)", "error": "error (1: as no effect)"}
ROW_INCHES = 0.28
PANEL_INCHES = 2.0
JITTER = 0.25  # rows
POINTS: dict[str, Any] = {"ls": "", "color": BLUE, "alpha": 0.5, "mew": 0}
INSIDE = POINTS | {"marker": "o", "ms": 3.5, "label": "combination"}
BELOW = POINTS | {"marker": "<", "ms": 6, "label": "_below"}
ABOVE = POINTS | {"marker": ">", "ms": 6, "label": "_above"}
MEDIAN: dict[str, Any] = {
    "ls": "",
    "marker": "|",
    "color": "black",
    "ms": 13,
    "mew": 1.8,
    "label": "median",
}
CEILING: dict[str, Any] = {"color": VERMILLION, "ls": "--", "lw": 1.2, "label": "ceiling (median)"}
BEST: dict[str, Any] = {"color": "0.5", "ls": ":", "lw": 1.2, "label": "perfect"}


@with_shared_parts
def counterfactual_shift(shifts: pd.DataFrame, *, save: str | Path | None = None) -> Figure:
    """Draw correlation, slope and error of every method, for seen and held-out combinations.

    A point is a combination of target batch and cell type, the median over source batches; a bar
    is the median over the combinations, the number in
    :func:`scmedal_tools.bm.shift_summary`. The dashed line is the median ceiling: the
    correlation that the true shifts would have with the measured ones.

    Parameters
    ----------
    shifts
        Result of :func:`scmedal_tools.bm.counterfactual_shift`.
    %(save)s

    Returns
    -------
    matplotlib.figure.Figure
        A row of panels for each regime, a panel for each score, with the methods in the order of
        the table. Slopes outside -0.5 to 2.5 and errors outside -0.5 to 2 are arrowheads at the
        edge; scores that are NaN are not drawn. It shows itself as the last expression of a
        notebook cell, and is unknown to ``plt.show``.

    Raises
    ------
    ValueError
        If the table lacks a column of :func:`scmedal_tools.bm.counterfactual_shift`, or has no
        rows.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> shifts = smt.bm.counterfactual_shift(
    ...     model, adata, "donor", "cell_type", min_cells=5, baselines=False, progress=False
    ... )
    >>> figure = smt.pl.counterfactual_shift(shifts)
    >>> [ax.get_xlabel() for ax in figure.axes]
    ['correlation', 'slope (measured on predicted)', 'error (1: as no effect)']
    """
    needed = {"method", "regime", "cell_type", "target", "ceiling", *PERFECT}
    if missing := sorted(needed - set(shifts.columns)):
        raise ValueError(
            f"The table has no columns {missing}: pass the result of bm.counterfactual_shift."
        )
    if shifts.empty:
        raise ValueError("The table has no rows: there is nothing to draw.")
    points = per_combination(shifts)
    methods = list(points["method"].unique())
    figure, axes = _grid(points["regime"].nunique(), methods)
    for row, (regime, of_regime) in zip(axes, points.groupby("regime", sort=False), strict=True):
        for ax, score in zip(row, PERFECT, strict=True):
            _draw_score(ax, score, of_regime, methods)
        row[0].axvline(of_regime["ceiling"].median(), zorder=1, **CEILING)
        n_combinations = len(of_regime.groupby(["cell_type", "target"]))
        combinations = "combination" if n_combinations == 1 else "combinations"
        row[0].set_title(
            plain(f"{regime} ({n_combinations} {combinations})"), fontsize=9, loc="left"
        )
        row[0].set_yticks(np.arange(len(methods)), map(plain, methods), fontsize=8)
        row[0].set_ylim(len(methods) - 0.5, -0.5)
    for ax, score in zip(axes[-1], PERFECT, strict=True):
        ax.set_xlabel(NAMES.get(score, score), fontsize=8)
    entries = [Line2D([], [], **style) for style in (INSIDE, MEDIAN, CEILING, BEST)]
    style = {"ncols": len(entries), "frameon": False, "fontsize": 8}
    figure.legend(handles=entries, loc="outside lower center", **style)
    save_figure(figure, save)
    return figure


def _grid(n_regimes: int, methods: list[str]) -> tuple[Figure, np.ndarray]:
    height = 0.4 + ROW_INCHES * len(methods)
    width = 0.5 + widest(methods, 8) + PANEL_INCHES * len(PERFECT)
    figure = new_figure((width, 0.7 + height * n_regimes))
    shape = (n_regimes, len(PERFECT))
    return figure, figure.subplots(*shape, sharex="col", sharey=True, squeeze=False)


def _draw_score(ax: Axes, score: str, points: pd.DataFrame, methods: list[str]) -> None:
    low, high = WIDEST[score]
    # The same vertical shift in every panel: a combination can be followed from one to the next.
    jitter = np.random.default_rng(0).uniform(-JITTER, JITTER, len(points))
    rows = points["method"].map(methods.index) + jitter
    values = points[score]
    parts = (INSIDE, values.between(low, high)), (BELOW, values < low), (ABOVE, values > high)
    for style, drawn in parts:
        if drawn.any():
            ax.plot(values[drawn].clip(low, high), rows[drawn], **style)
    medians = points.groupby("method")[score].median().reindex(methods)
    ax.plot(medians.clip(low, high), np.arange(len(methods)), zorder=3, **MEDIAN)
    if score != "correlation":  # which has the ceiling
        ax.axvline(PERFECT[score], zorder=1, **BEST)
    ax.tick_params(labelsize=7)
    ax.tick_params("y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    for between in np.arange(1, len(methods)) - 0.5:
        ax.axhline(between, color="0.92", linewidth=0.8, zorder=0)
