"""Effects of each batch on genes, as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import CenteredNorm
from matplotlib.ticker import MaxNLocator

from scmedal_tools._docs import with_shared_parts

from ._batches import batch_tree, draw_tree, effects_on
from ._common import axes_of, draw_matrix, figure_of, save_figure, widest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from scmedal_tools.model import SCMEDAL_RE

CELL_INCHES = 0.2


@with_shared_parts
def batch_effects_heatmap(
    model: SCMEDAL_RE,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 20,
    factor: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw the effects of all batches on genes as a heat map, with similar batches together.

    White is no effect. Colours show posterior means, which are near zero where little is known;
    :func:`batch_effects_forest` shows their uncertainty. The batches are in the order of the tree
    beside them, that of :func:`batch_dendrogram`, which uses *all* genes.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    genes, n_genes, factor, save
        See :func:`batch_effects_forest`.
    %(ax)s
    **kwargs
        ``n_samples``, ``n_cells`` and ``seed`` of :func:`scmedal_tools.tl.batch_similarity`.

    Returns
    -------
    matplotlib.axes.Axes
        Those of the heat map. The tree and the colour bar are axes within them.

    Raises
    ------
    KeyError
        If one of `genes` is not a gene of the model.
    TypeError
        If the model is not a ``SCMEDAL_RE``.
    ValueError
        If there are no genes to draw, or the model has no such factor.
    RuntimeError
        If the model is not trained.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> ax = smt.pl.batch_effects_heatmap(model, ["gene_0003", "gene_0008"], n_samples=10)
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['gene_0003', 'gene_0008']
    """
    effects, _ = effects_on(model, genes, n_genes, factor=factor, **kwargs)
    tree, order = batch_tree(model, factor=factor, **kwargs)
    ax = axes_of(ax, heatmap_size(effects))
    draw_heatmap(ax, effects.reindex(order))
    beside = ax.inset_axes((-0.2, 0, 0.19, 1))
    draw_tree(beside, tree)
    beside.axis("off")
    save_figure(figure_of(ax), save)
    return ax


def heatmap_size(effects: pd.DataFrame) -> tuple[float, float]:
    """Width and height in inches, with all names and a tree beside."""
    n_batches, n_genes = effects.shape
    beside, below = widest(effects.index, 8), widest(effects.columns, 8)
    width = max(CELL_INCHES * n_genes, 1.6)
    return 1.6 + width + beside, max(0.9 + CELL_INCHES * n_batches, 2.0) + below


def draw_heatmap(ax: Axes, effects: pd.DataFrame) -> None:
    """Draw effects, batches x genes in this order, with a colour bar above."""
    largest = np.abs(effects.to_numpy()).max()
    image = draw_matrix(ax, effects, "RdBu_r", CenteredNorm(0, largest or 1.0))
    ax.yaxis.tick_right()
    share = 0.5 if effects.shape[1] > 10 else 1  # room for the numbers
    bar = ax.figure.colorbar(
        image,
        cax=ax.inset_axes((0, 1.04, share, 0.04)),
        orientation="horizontal",
        ticks=MaxNLocator(3, min_n_ticks=3),
    )
    bar.ax.xaxis.set_ticks_position("top")
    bar.ax.tick_params(labelsize=7)
    bar.ax.set_title("effect on log-expression", fontsize=8, loc="left")
    bar.outline.set_visible(False)
