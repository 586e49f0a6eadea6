"""Effects of each batch on genes, as a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import CenteredNorm
from matplotlib.ticker import MaxNLocator
from scipy.cluster import hierarchy

from scmedal_tools._docs import with_shared_parts

from ._batches import batch_colors, batch_tree, branches, draw_leaves, effects_on
from ._common import axes_of, draw_matrix, figure_of, save_figure, widest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from scmedal_tools.model import SCMEDAL_RE

CELL_INCHES, LEAST_INCHES, TREE_INCHES = 0.16, 1.4, 0.6


@with_shared_parts
def batch_effects_heatmap(
    model: SCMEDAL_RE,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 45,
    factor: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw the effects of all batches on genes as a heat map, similar ones side by side.

    White is no effect. Colours show posterior means, which are near zero where little is known;
    :func:`batch_effects_forest` shows their uncertainty. The batches are in the order of the tree
    above them, that of :func:`batch_dendrogram`, which uses *all* genes; genes with similar
    effects are next to each other.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`. Its data are modified as by
        :func:`batch_effects_forest`.
    genes, n_genes, factor, save
        See :func:`batch_effects_forest`. The genes are put in another order.
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
    %(not_re)s
    ValueError
        If there are no genes to draw, or the model has no such factor.
    %(untrained)s

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> ax = smt.pl.batch_effects_heatmap(model, ["gene_0003", "gene_0008"], n_samples=10)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['gene_0003', 'gene_0008']
    """
    effects, _ = effects_on(model, genes, n_genes, factor=factor, **kwargs)
    tree, order = batch_tree(model, factor=factor, **kwargs)
    ax = axes_of(ax, heatmap_size(effects))
    draw_heatmap(ax, effects.reindex(order), tree, batch_colors(model, factor))
    save_figure(figure_of(ax), save)
    return ax


def heatmap_size(effects: pd.DataFrame) -> tuple[float, float]:
    """Width and height in inches, with all names, the tree and the colour bar."""
    n_batches, n_genes = effects.shape
    beside, below = widest(effects.columns, 8), widest(effects.index, 8)
    width, height = (max(CELL_INCHES * n, LEAST_INCHES) for n in (n_batches, n_genes))
    return width + beside + 0.2, height + below + TREE_INCHES + 0.9


def draw_heatmap(
    ax: Axes, effects: pd.DataFrame, tree: NDArray[np.floating], colors: dict[str, str]
) -> None:
    """Draw effects of batches in the order of the tree, which is above, and a colour bar."""
    largest = np.abs(effects.to_numpy()).max()
    table = _clustered(effects.T)
    image = draw_matrix(ax, table, "RdBu_r", CenteredNorm(0, largest or 1.0))
    _draw_tree(ax, tree, list(effects.index), colors, len(table))
    # Above the tree: on the right, its label would seem to be that of a forest plot there.
    ticks = MaxNLocator(3, min_n_ticks=3)
    bar = ax.figure.colorbar(image, ax=ax, location="top", shrink=0.8, pad=0.02, ticks=ticks)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("effect on log-expression", fontsize=8)
    bar.outline.set_visible(False)


def _draw_tree(
    ax: Axes, tree: NDArray[np.floating], order: list[str], colors: dict[str, str], n_genes: int
) -> None:
    """Draw the tree above the first row, as high as some rows are."""
    n_rows = TREE_INCHES / max(CELL_INCHES, LEAST_INCHES / n_genes)
    bottom = -0.5 - 0.2 * n_rows
    height = 0.8 * n_rows / (tree[:, 2].max() or 1.0)
    for leaves, distances in branches(tree):
        ax.plot(leaves, bottom - height * distances, color="0.3", linewidth=1)
    columns = np.arange(len(order))
    draw_leaves(ax, columns, np.full(len(columns), bottom), order, colors)
    ax.set_ylim(n_genes - 0.5, -0.5 - 1.1 * n_rows)


def _clustered(effects: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of their own tree (average linkage)."""
    if len(effects) < 3:
        return effects
    tree = hierarchy.linkage(effects.to_numpy(), "average", optimal_ordering=True)
    return effects.iloc[hierarchy.leaves_list(tree)]
