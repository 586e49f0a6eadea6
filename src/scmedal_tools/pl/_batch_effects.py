"""Effects of batches on genes in one figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmedal_tools._docs import with_shared_parts

from ._batch_dendrogram import draw_dendrogram
from ._batch_effects_forest import check_interval, draw_forest, forest_size
from ._batch_effects_heatmap import draw_heatmap, heatmap_size
from ._batches import batch_colors, batch_tree, effects_on
from ._common import new_figure, save_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from scmedal_tools.model import SCMEDAL_RE

TREE_INCHES = 2.6


@with_shared_parts
def batch_effects(
    model: SCMEDAL_RE,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 10,
    factor: str | None = None,
    interval: float = 0.9,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw the effects of batches on genes, their uncertainty, and which batches are similar.

    Above, :func:`batch_effects_forest`: a panel for each gene with the interval of every batch,
    black where all of it is on one side of zero. Below, :func:`batch_dendrogram`, the tree of the
    batches by their effects on *all* genes; and, in its order, :func:`batch_effects_heatmap` of
    the genes above.

    Parameters
    ----------
    model, genes, n_genes, factor, interval, save
        See :func:`batch_effects_forest`.
    **kwargs
        ``n_samples``, ``n_cells`` and ``seed`` of
        :meth:`~scmedal_tools.model.SCMEDAL_RE.get_batch_effects` and
        :func:`scmedal_tools.tl.batch_similarity`.

    %(figure)s

    Raises
    ------
    KeyError
        If one of `genes` is not a gene of the model.
    TypeError
        If the model is not a ``SCMEDAL_RE``.
    ValueError
        If there are no genes to draw, `interval` is not a share, or the model has no such factor.
    RuntimeError
        If the model is not trained.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> figure = smt.pl.batch_effects(model, ["gene_0003", "gene_0008"], n_samples=10)
    """
    check_interval(interval)
    effects, sds = effects_on(model, genes, n_genes, factor=factor, **kwargs)
    tree, order = batch_tree(model, factor=factor, **kwargs)
    colors = batch_colors(model, factor)

    forest_width, forest_height = forest_size(effects)
    heatmap_width, heatmap_height = heatmap_size(effects)
    width = max(forest_width, TREE_INCHES + heatmap_width)
    figure = new_figure((width, forest_height + heatmap_height))
    heights = (forest_height, heatmap_height)
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=heights))
    draw_forest(above, effects, sds, interval, colors)
    ratios = (TREE_INCHES, width - TREE_INCHES)
    left, right = below.subplots(1, 2, width_ratios=ratios)
    draw_dendrogram(left, tree, order, colors)
    left.set_yticks([])  # the heat map names the same rows
    draw_heatmap(right, effects.reindex(order))
    save_figure(figure, save)
    return figure
