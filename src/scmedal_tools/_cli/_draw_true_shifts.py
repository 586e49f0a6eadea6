"""Counterfactual shifts of simulated data beside the true ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm

from scmedal_tools.datasets import true_shift
from scmedal_tools.pl import new_figure

from ._strongest_shifts import moved_groups

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

N_COLUMNS = 3
IDENTITY: dict[str, Any] = {"color": "0.4", "linestyle": "--", "linewidth": 1}


def draw_true_shifts(means: AnnData, adata: AnnData) -> Figure:
    """Draw predicted against true shifts of all genes, in a panel for each cell type.

    Parameters
    ----------
    means
        What ``tl.counterfactual_means`` gives, with cell types.
    adata
        The cells, of ``datasets.simulated``.
    """
    moved = moved_groups(means)
    scenarios = moved.obs[["cell_type", "source", "target"]].to_dict("records")
    truth = np.stack([true_shift(adata, **scenario) for scenario in scenarios])
    predicted = np.asarray(moved.X)
    limit = 1.05 * max(np.abs(predicted).max(), np.abs(truth).max())
    groups = moved.obs.groupby("cell_type", observed=True).indices
    n_columns = min(N_COLUMNS, len(groups))
    n_rows = -(-len(groups) // n_columns)
    figure = new_figure((2.4 * n_columns, 0.3 + 2.4 * n_rows))
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[len(groups) :]:
        ax.remove()
    for ax, (name, rows) in zip(axes, groups.items(), strict=False):
        ax.hexbin(
            predicted[rows].ravel(), truth[rows].ravel(),
            gridsize=60, extent=(-limit, limit, -limit, limit), linewidths=0, cmap="Blues",
            norm=LogNorm(vmin=0.1),  # a single gene is seen too
        )  # fmt: skip
        ax.axline((0, 0), slope=1, **IDENTITY)
        correlations = [np.corrcoef(predicted[row], truth[row])[0, 1] for row in rows]
        ax.set_title(f"{name}, correlation {np.median(correlations):.2f}", fontsize=9)
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("predicted shift", fontsize=9)
    figure.supylabel("true shift", fontsize=9)
    return figure
