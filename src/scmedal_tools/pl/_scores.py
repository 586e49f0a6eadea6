"""Scores of a cross-validation with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.bm._cross_validation._embedders import RE
from scmedal_tools.bm._cross_validation._mixing_classifier import CHANCE, SEPARATOR

from ._common import BLUE, VERMILLION, figure_of, new_figure, plain, save_figure, widest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scmedal_tools.bm import CrossValidation

NEEDED = ["embedding", "of", "metric", "mean", "lower", "upper"]


class Style(NamedTuple):
    """How the points of a kind of row look."""

    color: str
    marker: str
    face: str


# Two colours and two shapes: distinguishable without colours too.
STYLES = {
    "embedding": Style(BLUE, "o", BLUE),
    "with RE": Style(VERMILLION, "D", VERMILLION),
    "control": Style("0.5", "o", "white"),
}
CHANCE_STYLE: dict[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 1.2}
PANEL_WIDTH, ROW_HEIGHT = 2.6, 0.2  # inches
TICKS: dict[str, Any] = {"nbins": 4, "min_n_ticks": 3}  # numbers as long as -0.075 fit
MARGINS = 0.95  # inches around the panel


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

    Embeddings are blue points, those beside RE vermillion diamonds. Controls are below them,
    hollow and grey, and chance is a dotted line. After one fold there are no intervals. Methods
    marked "joint" were fitted to the test cells too.

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
        figure, axes = _new_figure(rows["label"], panels)
    elif len(panels) == 1:
        figure, axes = figure_of(ax), [ax]
    else:
        raise ValueError(f"One ax cannot hold panels for {panels}: choose one with `of`.")
    for panel, each in zip(axes, panels, strict=True):
        _draw(panel, rows, summary[(summary["metric"] == metric) & (summary["of"] == each)])
        panel.set_title(plain(each), fontsize=9)
        panel.set_xlabel(plain(metric.replace("_", " ")), fontsize=8)
    axes[0].set_yticks(rows["y"], map(plain, rows["label"]), fontsize=8)
    if ax is None:
        _legend(figure, axes)
    else:
        ax.legend(frameon=False, fontsize=8)
    save_figure(figure, save)
    return figure


def _summary_of(result: CrossValidation | pd.DataFrame) -> pd.DataFrame:
    summary = result if isinstance(result, pd.DataFrame) else result.summary()
    missing = [name for name in NEEDED if name not in summary]
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
        raise KeyError(f"of={of!r}: {metric} is there of {', '.join(known[metric])}.")
    return panels


def _rows(drawn: pd.DataFrame) -> pd.DataFrame:
    """A row for each embedding, controls below the others: height, name and kind."""
    rows = drawn[drawn["embedding"] != CHANCE].drop_duplicates("embedding")
    rows = rows.sort_values("control", kind="stable").set_index("embedding")
    with_re = [name.endswith(f"{SEPARATOR}{RE}") for name in rows.index]
    kind = np.select([rows["control"], with_re], ["control", "with RE"], "embedding")
    label = [f"{name} (joint)" if joint else name for name, joint in rows["joint"].items()]
    # Half a row apart: what is compared, and its controls.
    y = np.arange(len(rows)) + 0.5 * rows["control"].to_numpy()
    return pd.DataFrame({"kind": kind, "label": label, "y": y}, index=rows.index)


def _new_figure(labels: pd.Series, panels: list[str]) -> tuple[Figure, list[Axes]]:
    panel = max(PANEL_WIDTH, widest(panels, 9) + 0.3)
    width = panel * len(panels) + widest(labels, 8) + 0.2
    height = ROW_HEIGHT * len(labels) + MARGINS
    figure = new_figure((width, height))
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
                color=style.color, markerfacecolor=style.face, label=kind,
            )  # fmt: skip
    if CHANCE in scores.index:
        ax.axvline(scores.loc[CHANCE, "mean"], label=CHANCE, zorder=0, **CHANCE_STYLE)
    ax.set_ylim(rows["y"].max() + 0.6, -0.6)
    ax.grid(axis="y", color="0.92", linewidth=0.6)
    ax.set_axisbelow(True)
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
    style |= {"loc": "outside lower center", "ncols": len(entries)}
    figure.legend(list(entries.values()), list(entries), **style)
