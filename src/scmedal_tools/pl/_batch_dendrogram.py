"""Which batches are similar, as a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmedal_tools._docs import with_shared_parts

from ._batches import batch_colors, batch_tree, branches, draw_leaves
from ._common import axes_of, figure_of, plain, save_figure, widest

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from scmedal_tools.model import SCMEDAL_RE

ROW_INCHES = 0.2


@with_shared_parts
def batch_dendrogram(
    model: SCMEDAL_RE,
    *,
    factor: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw a tree of the batches by their effects on all genes.

    Two branches join at the mean distance between their batches (average linkage). A batch about
    which little is known joins late: what is not known counts as a difference, see
    :func:`scmedal_tools.tl.batch_similarity`.

    Parameters
    ----------
    model, factor, save
        See :func:`batch_effects_forest`.
    %(ax)s
    **kwargs
        ``n_samples``, ``n_cells`` and ``seed`` of :func:`scmedal_tools.tl.batch_similarity`.

    Returns
    -------
    matplotlib.axes.Axes
        The distance is in log-expression.

    Raises
    ------
    %(not_re)s
    ValueError
        If the model has no such factor.
    %(untrained)s

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> ax = smt.pl.batch_dendrogram(model, n_samples=10)
    >>> sorted(label.get_text() for label in ax.get_yticklabels())
    ['donor_01', 'donor_02', 'donor_03', 'donor_04']
    """
    tree, order = batch_tree(model, factor=factor, **kwargs)
    ax = axes_of(ax, (3.4 + widest(order, 8), 0.8 + ROW_INCHES * len(order)))
    # The root on the left, the first leaf on top.
    for leaves, distances in branches(tree):
        ax.plot(distances, leaves, color="0.3", linewidth=1)
    rows = np.arange(len(order))
    ax.set(xlim=(tree[:, 2].max() * 1.02 or 1.0, 0), ylim=(len(rows) - 0.5, -0.5))
    draw_leaves(ax, np.zeros(len(rows)), rows, order, batch_colors(model, factor))
    ax.set_yticks(rows, map(plain, order), fontsize=8)
    ax.yaxis.tick_right()
    ax.tick_params("y", length=0, pad=6)
    ax.tick_params("x", labelsize=7)
    ax.set_xlabel("distance of effects", fontsize=8)
    ax.spines[["top", "left", "right"]].set_visible(False)
    save_figure(figure_of(ax), save)
    return ax
