"""Effects of each batch on chosen genes, with their uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from scmedal_tools._data import check_interval
from scmedal_tools._docs import with_shared_parts

from ._batches import batch_colors, effects_on
from ._common import balanced_columns, new_figure, plain, save_figure, widest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

    from scmedal_tools.model import SCMEDAL_RE

MAX_COLUMNS = 5
ROW_INCHES = 0.14
PANEL_INCHES = 1.5
# Black where the interval is on one side of zero.
SURE, UNSURE = "0.0", "0.65"


@with_shared_parts
def batch_effects_forest(
    model: SCMEDAL_RE,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 20,
    factor: str | None = None,
    interval: float = 0.9,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw the effect of every batch on genes with its interval, a panel for each gene.

    Points are posterior means in the colours of the batches, lines are intervals: black where all
    of it is on one side of zero, grey elsewhere. All panels have the same axis.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`. Its data are modified: where
        ``uns["<column>_colors"]`` has no colours of the batches, these are written as by
        :func:`embeddings`.
    genes
        Genes to draw, in this order; by default those with the largest root mean square effect
        over the batches, largest first.
    n_genes
        Number of genes if `genes` are not given.
    factor
        Factor whose levels are drawn, one of ``model.factors``; ``None`` for the batch.
    interval
        Coverage of an interval, from a normal distribution with the posterior's mean and
        standard deviation. It is for one batch and gene, not for all of them at once.
    %(save)s
    **kwargs
        ``n_samples``, ``n_cells`` and ``seed`` of
        :meth:`~scmedal_tools.model.SCMEDAL_RE.get_batch_effects`.

    %(figure)s

    Raises
    ------
    KeyError
        If one of `genes` is not a gene of the model.
    %(not_re)s
    ValueError
        If there are no genes to draw, `interval` is not a share, or the model has no such factor.
    %(untrained)s

    Notes
    -----
    Effects are deviations from the population, which is learned from the same batches. Of two
    batches they are nearly mirror images: one difference, drawn twice.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> figure = smt.pl.batch_effects_forest(model, ["gene_0003", "gene_0008"], n_samples=10)
    >>> [ax.get_title() for ax in figure.axes]
    ['gene_0003', 'gene_0008']
    """
    check_interval(interval)
    effects, sds = effects_on(model, genes, n_genes, factor=factor, **kwargs)
    n_columns = balanced_columns(effects.shape[1], MAX_COLUMNS)
    figure = new_figure(forest_size(effects, n_columns))
    draw_forest(figure, effects, sds, interval, batch_colors(model, factor), n_columns)
    save_figure(figure, save)
    return figure


def forest_size(effects: pd.DataFrame, n_columns: int) -> tuple[float, float]:
    """Width and height in inches of the panels of all genes and the names of the batches."""
    n_batches, n_genes = effects.shape
    height = 0.5 + ROW_INCHES * n_batches
    width = max(PANEL_INCHES, widest(effects.columns, 9) + 0.2) * n_columns
    return 0.3 + widest(effects.index, 7) + width, 0.3 + height * -(-n_genes // n_columns)


def draw_forest(
    figure: FigureBase,
    effects: pd.DataFrame,
    sds: pd.DataFrame,
    interval: float,
    colors: dict[str, str],
    n_columns: int,
) -> None:
    """Draw a panel for each gene, a column of the tables, into a figure or a part of one."""
    half_widths = norm.ppf((1 + interval) / 2) * sds
    point_colors = [colors[str(name)] for name in effects.index]
    axes = _panels(figure, effects.shape[1], n_columns)
    for ax, gene in zip(axes, effects.columns, strict=True):
        _draw_gene(ax, effects[gene], half_widths[gene], point_colors)
    axes[0].set_yticks(np.arange(len(effects)), map(plain, effects.index))
    axes[0].set_ylim(len(effects) - 0.4, -0.6)
    figure.supxlabel(f"effect on log-expression, {100 * interval:g}% interval", fontsize=9)


def _panels(figure: FigureBase, n_genes: int, n_columns: int) -> list[Axes]:
    n_rows = -(-n_genes // n_columns)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[n_genes:]:
        ax.remove()
    for ax in axes[max(n_genes - n_columns, 0) : n_genes]:
        ax.tick_params(labelbottom=True)
    return list(axes[:n_genes])


def _draw_gene(
    ax: Axes, effects: pd.Series, half_widths: pd.Series, point_colors: list[str]
) -> None:
    rows = np.arange(len(effects))
    lower, upper = effects - half_widths, effects + half_widths
    line_colors = np.where((lower > 0) | (upper < 0), SURE, UNSURE)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.hlines(rows, lower, upper, colors=list(line_colors), linewidth=1.1)
    ax.scatter(effects, rows, c=point_colors, s=16, edgecolors="0.2", linewidths=0.4, zorder=3)
    ax.set_title(plain(effects.name), fontsize=9)
    ax.tick_params(labelsize=7, length=2)
    ax.tick_params("y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
