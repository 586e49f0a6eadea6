"""Scores of a cross-validation with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.bm import BATCH_LABEL, CHANCE, PERMUTED, RE, SEPARATOR
from scmedal_tools.ext import display_names

from ._common import figure_of, new_figure, plain, save_figure, widest
from ._palette import BLUE, VERMILLION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scmedal_tools.bm import CrossValidation

SUMMARY_COLUMNS = ["embedding", "of", "metric", "mean", "lower", "upper"]


class Style(NamedTuple):
    """How the points of a kind of score look."""

    color: str
    marker: str
    face: str


ALONE, CONTROL = "alone", "control"
WITH_RE, WITH_PERMUTED, WITH_BATCH = (SEPARATOR + x for x in (RE, PERMUTED, BATCH_LABEL))
# From top to bottom of a row. Shapes differ too: distinguishable without colours.
STYLES = {
    ALONE: Style(BLUE, "o", BLUE),
    CONTROL: Style("0.5", "o", "white"),
    WITH_RE: Style(VERMILLION, "D", VERMILLION),
    WITH_PERMUTED: Style(VERMILLION, "D", "white"),
    WITH_BATCH: Style("0.5", "s", "white"),
}
JOINED = WITH_RE, WITH_PERMUTED, WITH_BATCH
NAMES = {CONTROL: "control alone"}
NAMES |= {kind: f"with {kind.removeprefix(SEPARATOR)}" for kind in JOINED}
CHANCE_STYLE: dict[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 1.2}
PANEL_INCHES, LINE_INCHES = 2.6, 0.1
TICKS: dict[str, Any] = {"nbins": 4, "min_n_ticks": 3}  # numbers as long as -0.075 fit
MARGINS = 1.1  # inches around the panel
N_ENTRIES = 3  # of the legend, side by side


@with_shared_parts
def scores(
    result: CrossValidation | pd.DataFrame,
    metric: str = "balanced_accuracy",
    of: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Figure:
    """Draw scores of embeddings with their 95%% intervals over the folds.

    A row for each embedding: alone, a blue point, and, where it was scored so, joined with RE's
    latent, with that of an RE trained on permuted labels, and with the batch label. Only what is
    filled counts: the hollow ones are controls. Embeddings that are controls themselves are
    below, and chance is a dotted line. After one fold there are no intervals. Methods marked
    "joint" were fitted to the test cells too.

    Parameters
    ----------
    result
        Result of :func:`scmedal_tools.bm.cross_validate`, or its ``summary()``.
    metric
        Score to draw, for example ``"accuracy"`` or ``"ASW"``.
    of
        Of what: targets, ``"batch"``, ``"batch within label"`` or ``"label"``; a panel for each,
        with the same rows. ``None`` for all that have the metric.
    ax
        Where to draw a single panel; by default in a new figure.
    %(save)s

    %(figure)s

    Raises
    ------
    KeyError
        If the table is no summary, or has no such metric of that.
    ValueError
        If there are several panels for one ``ax``.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> figure = smt.pl.scores(result, "ASW")
    >>> [ax.get_title() for ax in figure.axes]
    ['batch', 'batch within label', 'label']
    """
    summary = _summary_of(result)
    panels = _panels(summary, metric, of)
    rows = _rows(summary[(summary["metric"] == metric) & summary["of"].isin(panels)])
    if ax is None:
        figure, axes = _new_figure(rows, panels)
    elif len(panels) == 1:
        figure, axes = figure_of(ax), [ax]
    else:
        raise ValueError(f"One ax cannot hold panels for {panels}: choose one with `of`.")
    for panel, each in zip(axes, panels, strict=True):
        _draw(panel, rows, summary[(summary["metric"] == metric) & (summary["of"] == each)])
        panel.set_title(plain(each), fontsize=9)
        panel.set_xlabel(plain(metric.replace("_", " ")), fontsize=8)
    labelled = rows.groupby("label", sort=False)["y"].mean()
    axes[0].set_yticks(labelled, map(plain, labelled.index), fontsize=8)
    if ax is None:
        _legend(figure, axes)
    else:
        ax.legend(frameon=False, fontsize=8)
    save_figure(figure, save)
    return figure


def _summary_of(result: CrossValidation | pd.DataFrame) -> pd.DataFrame:
    summary = result if isinstance(result, pd.DataFrame) else result.summary()
    missing = [name for name in SUMMARY_COLUMNS if name not in summary]
    if missing:
        raise KeyError(
            f"{missing} not in the table: pass the result of bm.cross_validate, or its summary()."
        )
    return summary.assign(**{k: False for k in ("control", "joint") if k not in summary})


def _panels(summary: pd.DataFrame, metric: str, of: str | Sequence[str] | None) -> list[str]:
    known = summary.groupby("metric", sort=False)["of"].unique().map(list).to_dict()
    if metric not in known:
        raise KeyError(f"There is no metric {metric!r}; there are {', '.join(known)}.")
    panels = known[metric] if of is None else [of] if isinstance(of, str) else list(of)
    unknown = [name for name in panels if name not in known[metric]]
    if unknown or not panels:
        raise KeyError(f"of={of!r}: {metric} is available for {', '.join(known[metric])}.")
    return panels


def _rows(drawn: pd.DataFrame) -> pd.DataFrame:
    """Where and how to draw each embedding: row, line in it, height and kind."""
    lines = drawn[drawn["embedding"] != CHANCE].drop_duplicates("embedding")
    bases, kinds = zip(*map(_base_and_kind, lines["embedding"]), strict=True)
    lines = lines.set_index("embedding").assign(base=bases, kind=kinds)
    is_control = lines["control"] & (lines["kind"] == ALONE)
    lines["kind"] = lines["kind"].mask(is_control, CONTROL)
    of_row = lines.groupby("base", sort=False)
    lines["below"] = is_control.groupby(lines["base"]).transform("any")
    lines["row"] = of_row.ngroup()
    lines["line"] = lines["kind"].map(list(STYLES).index)
    lines = lines.sort_values(["below", "row", "line"], kind="stable")
    lines["label"] = [
        f"{display_names(x)}{' (joint)' if joint else ''}"
        for x, joint in lines[["base", "joint"]].values
    ]
    # A line apart: rows, and what is compared from its controls.
    gaps = (lines["row"] != lines["row"].shift()).cumsum() - 1 + lines["below"]
    return lines.assign(y=np.arange(len(lines)) + gaps)


def _base_and_kind(embedding: str) -> tuple[str, str]:
    for kind in JOINED:
        if embedding.endswith(kind):
            return embedding.removesuffix(kind), kind
    return embedding, ALONE


def _new_figure(rows: pd.DataFrame, panels: list[str]) -> tuple[Figure, list[Axes]]:
    panel = max(PANEL_INCHES, widest(panels, 9) + 0.3)
    width = panel * len(panels) + widest(rows["label"], 8) + 0.2
    figure = new_figure((width, LINE_INCHES * (rows["y"].max() + 2) + MARGINS))
    return figure, list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])


def _draw(ax: Axes, rows: pd.DataFrame, scores: pd.DataFrame) -> None:
    scores = scores.set_index("embedding")
    for kind, style in STYLES.items():
        y = rows.loc[rows["kind"] == kind, "y"]
        of_kind = scores.reindex(y.index)
        if of_kind["mean"].notna().any():
            ax.hlines(y, of_kind["lower"], of_kind["upper"], color=style.color, linewidth=1.4)
            ax.plot(
                of_kind["mean"], y, linestyle="", marker=style.marker, markersize=4.5,
                color=style.color, markerfacecolor=style.face, label=NAMES.get(kind, kind),
            )  # fmt: skip
    if CHANCE in scores.index:
        ax.axvline(scores.loc[CHANCE, "mean"], label=CHANCE, zorder=0, **CHANCE_STYLE)
    for i, (_, y) in enumerate(rows.groupby("label", sort=False)["y"]):
        if i % 2 == 0:
            ax.axhspan(y.min() - 1, y.max() + 1, color="0.96", linewidth=0, zorder=-1)
    ax.set_ylim(rows["y"].max() + 1, -1)
    ax.tick_params(labelsize=7)
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", **TICKS)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _legend(figure: Figure, axes: list[Axes]) -> None:
    # The same label in several panels is one entry.
    entries = {str(line.get_label()): line for ax in axes for line in ax.lines}
    style: dict[str, Any] = {
        "frameon": False,
        "fontsize": 8,
        "handletextpad": 0.3,
        "columnspacing": 1.2,
    }
    style |= {"loc": "outside lower center", "ncols": min(len(entries), N_ENTRIES)}
    figure.legend(list(entries.values()), list(entries), **style)
