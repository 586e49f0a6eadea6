"""The largest counterfactual shifts, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools.pl import BLUE, new_figure, plain

from ._shifts_with_intervals import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_COLUMNS = 2
WIDTH, ROW_HEIGHT = 4.5, 0.22  # inches


def draw_shifts(strongest: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw a panel for each target: a gene in a group of cells in each row.

    Parameters
    ----------
    strongest
        Tables of :func:`strongest_shifts` by the target.
    """
    n_columns = min(N_COLUMNS, len(strongest))
    n_rows = -(-len(strongest) // n_columns)
    n_names = max(map(len, strongest.values()))
    height = 0.9 + ROW_HEIGHT * n_names
    figure = new_figure((WIDTH * n_columns, height * n_rows))
    axes = figure.subplots(n_rows, n_columns, sharex=True, squeeze=False).ravel()
    for ax in axes[len(strongest) :]:
        ax.remove()
    for ax, (target, table) in zip(axes, strongest.items(), strict=False):
        _draw_target(ax, target, table)
    figure.supxlabel(f"shift of log-expression, {INTERVAL:.0%} interval", fontsize=9)
    return figure


def _draw_target(ax: Axes, target: str, table: pd.DataFrame) -> None:
    rows = np.arange(len(table))
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.hlines(rows, table["lower"], table["upper"], colors="0.4", linewidth=1.2)
    ax.scatter(table["shift"], rows, color=BLUE, s=16, zorder=3)
    ax.set_yticks(rows, [plain(_name(row)) for row in table.to_dict("records")], fontsize=7)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_title(f"as if from {plain(target)}", fontsize=9)
    ax.tick_params(labelsize=7, length=2, labelbottom=True)
    ax.tick_params("y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _name(row: dict) -> str:
    of = f", {row['cell_type']}" if "cell_type" in row else ""
    return f"{row['gene']} ({row['source']}{of})"
