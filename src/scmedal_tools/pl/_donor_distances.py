"""Which donors are similar in which cells, a heat map for each group of cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.colors import Normalize
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from scmedal_tools._docs import with_shared_parts

from ._common import draw_matrix, new_figure, plain, save_figure, widest

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

CELL_INCHES, N_COLUMNS = 0.17, 4


@with_shared_parts
def donor_distances(distances: pd.DataFrame, *, save: str | Path | None = None) -> Figure:
    """Draw the distances between donors in every group of cells.

    Donors have the same order in all panels, that of a tree of their mean distances, and all
    panels the same colours. A donor whose row is light everywhere in a panel is unlike all others
    there, or has hardly any cells.

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
    groups, donors = distances.index.unique("group"), list(distances.columns)
    mean = distances.groupby(level="donor", sort=False).mean().loc[donors]
    tree = hierarchy.linkage(squareform(mean, checks=False), "average", optimal_ordering=True)
    order = [donors[i] for i in hierarchy.leaves_list(tree)]
    n_columns = min(N_COLUMNS, len(groups))
    n_rows = math.ceil(len(groups) / n_columns)
    side = max(CELL_INCHES * len(donors), 1.0, *(widest([name], 9) for name in groups))
    margin = widest(donors, 8) + 0.2
    figure = new_figure((margin + (side + 0.2) * n_columns + 0.8, margin + (side + 0.4) * n_rows))
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    norm = Normalize(0, distances.to_numpy().max() or 1.0)
    for ax, group in zip(axes.flat, groups, strict=False):
        image = draw_matrix(ax, distances.loc[group].loc[order, order], "viridis", norm)
        ax.set_title(plain(group), fontsize=9)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("distance of effects", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    save_figure(figure, save)
    return figure
