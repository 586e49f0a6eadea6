"""One gene's effect in every cell type, beside the samples it is estimated from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from scmedal_tools._data import check_interval
from scmedal_tools._docs import with_shared_parts

from ._batch_effects_forest import SURE, UNSURE
from ._common import checked_names, new_figure, plain, save_figure, widest
from ._palette import categories_of, palette

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scmedal_tools.tl import GroupEffects

ROW_INCHES, PANEL_INCHES = 0.42, 2.4
# Points of the groups of a state lie around its row, this far from each other.
DODGE = 0.5
N_NAMED = 10


@with_shared_parts
def group_effects(
    result: GroupEffects,
    gene: str,
    color: str,
    *,
    contrast: str | None = None,
    interval: float = 0.95,
    save: str | Path | None = None,
) -> Figure:
    """Draw the effect on a gene in every state with its interval, and the samples beside it.

    On the left the effect, with a line for its interval: black where all of it is on one side of
    zero, grey elsewhere. On the right a point for each sample, its base 2 logarithm of counts per
    million, in the colour of its group; samples of a donor are joined where a donor has several.

    Parameters
    ----------
    result
        Result of :func:`scmedal_tools.tl.group_effects`.
    gene
        Gene to draw.
    color
        Column of ``result.samples.obs`` that gives the points their colours, such as the
        condition. ``result.samples`` is modified: where ``uns["<column>_colors"]`` has no colours,
        these are written as by :func:`embeddings`.
    contrast
        Contrast to draw, by default the first.
    interval
        Probability that an interval holds.
    %(save)s

    %(figure)s

    Raises
    ------
    KeyError
        If the gene was not tested, or the column or contrast does not exist.
    ValueError
        If `interval` is not a share.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> found = smt.tl.group_effects(adata, "~ condition", "donor", layer="counts")
    >>> figure = smt.pl.group_effects(found, found.table["variable"][0], "condition")
    >>> [ax.get_xlabel() for ax in figure.axes]
    ['log2 fold change, 95%% interval', 'log2 counts per million']
    """
    check_interval(interval)
    table = result.table
    contrast = table["contrast"].iloc[0] if contrast is None else contrast
    checked_names(contrast, "contrast", "the contrasts", set(table["contrast"]))
    checked_names(color, "color", "result.samples.obs", result.samples.obs.columns)
    table = table[table["contrast"] == contrast].set_index("variable")
    if not isinstance(gene, str) or gene not in table.index:
        raise KeyError(_not_tested(gene, table.index.unique()))
    rows = table.loc[[gene]].set_index("state")
    width = 2 * PANEL_INCHES + widest(rows.index, 8) + 0.3
    figure = new_figure((width, 1.0 + ROW_INCHES * len(rows)))
    forest, points = figure.subplots(1, 2, sharey=True)
    _draw_forest(forest, rows, interval)
    _draw_samples(points, result, gene, color, rows.index)
    forest.set_yticks(np.arange(len(rows)), map(plain, rows.index), fontsize=8)
    forest.set_ylim(len(rows) - 0.4, -0.6)
    figure.suptitle(plain(f"{gene}, {contrast}"), fontsize=9)
    save_figure(figure, save)
    return figure


def _not_tested(gene: str, tested: pd.Index) -> str:
    more = ", ..." if len(tested) > N_NAMED else ""
    return (
        f"{gene!r} was not tested: it is not in the data, or has fewer than min_counts counts in "
        f"the mean of the samples. Tested were {len(tested):,} genes: "
        f"{', '.join(map(str, tested[:N_NAMED]))}{more}."
    )


def _draw_forest(ax: Axes, rows: pd.DataFrame, interval: float) -> None:
    place, df = np.arange(len(rows)), rows["df"].to_numpy()
    # As the p-value has it: the standard deviation is that of the t, not of a normal below it.
    half_width = stats.t.ppf((1 + interval) / 2, df) * np.sqrt(1 - 2 / df) * rows["se"]
    lower, upper = rows["log_fc"] - half_width, rows["log_fc"] + half_width
    colors = np.where((lower > 0) | (upper < 0), SURE, UNSURE)
    ax.axvline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.hlines(place, lower, upper, colors=list(colors), linewidth=1.1)
    ax.scatter(rows["log_fc"], place, c=list(colors), s=20, zorder=3)
    ax.set_xlabel(f"log2 fold change, {100 * interval:g}% interval", fontsize=8)
    _tidy(ax)


def _draw_samples(ax: Axes, result: GroupEffects, gene: str, color: str, states: pd.Index) -> None:
    samples = result.samples[:, gene]
    obs, value = samples.obs, np.asarray(samples.X).ravel()
    groups = categories_of(obs[color]).remove_unused_categories()
    colors = palette(result.samples, color)
    offset = DODGE * ((groups.codes + 0.5) / len(groups.categories) - 0.5)
    place = states.get_indexer(obs["state"]) + offset
    # The first column of the samples is the donor.
    placed = obs.assign(place=place, value=value)
    for _, own in placed.groupby(["state", obs.columns[0]], observed=True):
        if len(own) > 1:
            ax.plot(own["value"], own["place"], color="0.8", linewidth=0.6, zorder=1)
    for code, name in enumerate(groups.categories):
        own = groups.codes == code
        ax.scatter(value[own], place[own], color=colors[name], s=14, label=plain(name), zorder=2)
    ax.set_xlabel("log2 counts per million", fontsize=8)
    ax.legend(
        title=plain(color), fontsize=8, title_fontsize=8, frameon=False,
        loc="upper left", bbox_to_anchor=(1.0, 1.0),
    )  # fmt: skip
    _tidy(ax)


def _tidy(ax: Axes) -> None:
    ax.tick_params(labelsize=7, length=2)
    ax.tick_params("y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
