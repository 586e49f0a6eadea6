"""Effects of batches on genes in one figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmedal_tools._data import check_interval
from scmedal_tools._docs import with_shared_parts

from ._batch_effects_forest import draw_forest, forest_size
from ._batch_effects_heatmap import draw_heatmap, heatmap_size
from ._batches import batch_colors, batch_tree, effects_on
from ._common import balanced_columns, new_figure, save_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from scmedal_tools.model import SCMEDAL_RE

MAX_ROWS, N_COLUMNS = 3, 2


@with_shared_parts
def batch_effects(
    model: SCMEDAL_RE,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 45,
    factor: str | None = None,
    interval: float = 0.9,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw the effects of batches on genes, their uncertainty, and which batches are similar.

    On the left, :func:`batch_effects_heatmap`: all genes, and the tree of the batches. On the
    right, :func:`batch_effects_forest` of the first genes, six at most: a panel for each with the
    interval of every batch, black where all of it is on one side of zero.

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
    %(not_re)s
    ValueError
        If there are no genes to draw, `interval` is not a share, or the model has no such factor.
    %(untrained)s

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> figure = smt.pl.batch_effects(model, ["gene_0003", "gene_0008"], n_samples=10)
    """
    check_interval(interval)
    effects, sds = effects_on(model, genes, n_genes, factor=factor, **kwargs)
    tree, order = batch_tree(model, factor=factor, **kwargs)
    colors = batch_colors(model, factor)

    width, height = heatmap_size(effects)
    _, panel_height = forest_size(effects.iloc[:, :1], 1)
    n_rows = int(np.clip(height // panel_height, 1, MAX_ROWS))
    first = effects.columns[: n_rows * N_COLUMNS]
    n_columns = balanced_columns(len(first), N_COLUMNS)
    forest_width, forest_height = forest_size(effects[first], n_columns)
    figure = new_figure((width + forest_width, max(height, forest_height)))
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(width, forest_width)))
    draw_heatmap(left.subplots(), effects.reindex(order), tree, colors)
    draw_forest(right, effects[first], sds[first], interval, colors, n_columns)
    save_figure(figure, save)
    return figure
