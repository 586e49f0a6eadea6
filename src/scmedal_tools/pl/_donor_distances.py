"""Which donors are similar in which cells, a heat map for each group of cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.patches import Patch
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from scmedal_tools._docs import with_shared_parts

from ._common import balanced_columns, draw_matrix, new_figure, plain, save_figure, widest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from scmedal_tools.tl import DonorDistances

CELL_INCHES, MAX_COLUMNS = 0.17, 4
MIN_CELLS, TOO_FEW = 10, "0.85"
# A range of colours that donors who do not differ do not fill.
LEAST_TOP = 3.0


@with_shared_parts
def donor_distances(distances: DonorDistances, *, save: str | Path | None = None) -> Figure:
    """Draw the distances between donors in every group of cells.

    Colours are multiples of the posterior standard deviation of the difference between two
    donors: up to about 1.4 occur without any difference. Donors with fewer than 10 training cells
    in a group are grey there. Donors are ordered by hierarchical clustering of their mean
    distances, the same in all panels. All panels share one colour scale, from 1 to at least 3.

    Parameters
    ----------
    distances
        Result of :func:`scmedal_tools.tl.donor_distances`.
    %(save)s

    %(figure)s

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> distances = smt.tl.donor_distances(model, by="cell_type", n_samples=10)
    >>> figure = smt.pl.donor_distances(distances)
    >>> [ax.get_title() for ax in figure.axes[:3]]
    ['type_1', 'type_2', 'type_3']
    """
    ratios, is_few = _ratios(distances)
    top = float(np.fmax(ratios.max(axis=None), LEAST_TOP))
    groups, order = list(distances.n_cells.index), _order(ratios.fillna(top))
    n_columns = balanced_columns(len(groups), MAX_COLUMNS)
    n_rows = math.ceil(len(groups) / n_columns)
    side = max(CELL_INCHES * len(order), 1.0, *(widest([name], 9) for name in groups))
    margin = widest(order, 8) + 0.2
    size = margin + (side + 0.2) * n_columns + 0.8, margin + (side + 0.4) * n_rows + 0.3
    figure = new_figure(size)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    norm = Normalize(1, top)
    cmap = mpl.colormaps["Blues"].with_extremes(bad=TOO_FEW)
    for ax, group in zip(axes.flat, groups, strict=False):
        image = draw_matrix(ax, ratios.loc[group].loc[order, order], cmap, norm)
        ax.set_title(plain(group), fontsize=9)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("times the posterior s.d.", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if is_few:
        entry = Patch(color=TOO_FEW, label=f"fewer than {MIN_CELLS} cells")
        figure.legend(handles=[entry], loc="outside lower center", frameon=False, fontsize=8)
    save_figure(figure, save)
    return figure


def _ratios(distances: DonorDistances) -> tuple[pd.DataFrame, bool]:
    """Distances by their ``sd``, NaN of donors with few cells, and if there are any."""
    itself = distances.sd == 0
    ratios = (distances.distance / distances.sd.mask(itself)).mask(itself, 1.0)
    few = distances.n_cells < MIN_CELLS
    rows = few.stack().reindex(ratios.index).to_numpy()
    columns = few.loc[ratios.index.get_level_values("group")].to_numpy()
    return ratios.mask(columns | rows[:, None]), bool(few.to_numpy().any())


def _order(ratios: pd.DataFrame) -> list[str]:
    donors = list(ratios.columns)
    mean = ratios.groupby(level="donor", sort=False).mean().loc[donors].to_numpy(copy=True)
    np.fill_diagonal(mean, 0.0)
    tree = hierarchy.linkage(squareform(mean, checks=False), "average", optimal_ordering=True)
    return [donors[i] for i in hierarchy.leaves_list(tree)]
