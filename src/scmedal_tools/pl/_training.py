"""Loss curves of a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._common import BLUE, VERMILLION, new_figure, save_figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOTAL_LOSS = "total_loss"
STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": BLUE, "linestyle": "-"},
    "validation": {"color": VERMILLION, "linestyle": "--"},
}
BEST_EPOCH_STYLE: dict[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 1.2}
WORDS = {"ce": "cross-entropy", "kl": "KL", "mse": "MSE"}
# scvi-tools logs it for every model: these objectives are no bound on the evidence.
NOT_DRAWN = "elbo"
MAX_COLUMNS = 4
PANEL_SIZE = (2.5, 2.0)  # inches
LEGEND_HEIGHT = 0.35  # inches
LOG_RANGE = 100.0


def training(history: Any, *, save: str | Path | None = None) -> Figure:
    """Draw the loss curves of a training, one panel for each loss term.

    Training is a solid line, validation a dashed one. The vertical axis is logarithmic where a
    term is positive throughout and spans more than two orders of magnitude.

    Parameters
    ----------
    history
        A trained model, or its ``history``: a dictionary of one-column data frames of shape
        ``(n_epochs, 1)`` indexed by epoch. Drawn are ``train_loss`` and ``validation_loss``, as
        "total loss", and the names that end in ``_train`` or ``_validation``. Entries without at
        least two values, terms that are zero throughout and scvi-tools' ELBO are left out. Where
        a model has the attribute ``best_epoch_``, a dotted line marks that epoch.
    save
        File to write the figure to; its ending gives the format.

    Returns
    -------
    matplotlib.figure.Figure
        It shows itself as the last expression of a notebook cell, and is unknown to ``plt.show``.

    Raises
    ------
    ValueError
        If the model is not trained, or nothing in the history is a curve.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> figure = smt.pl.training(model)
    >>> figure.axes[0].get_title()
    'total loss'
    """
    terms = _curves_by_term(_history_of(history))
    best_epoch = getattr(history, "best_epoch_", None)

    figure, axes = _grid(len(terms))
    for ax, (term, curves) in zip(axes, terms.items(), strict=True):
        _draw_term(ax, term, curves, best_epoch)
    # The same label in several panels is one entry.
    handles = {str(line.get_label()): line for ax in axes for line in ax.lines}
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )
    save_figure(figure, save)
    return figure


def _history_of(source: Any) -> Mapping[str, Any]:
    history = getattr(source, "history", source)
    if not history:
        raise ValueError("There is no training history: train the model first.")
    return history


def _curves_by_term(history: Mapping[str, Any]) -> dict[str, dict[str, pd.Series]]:
    """Group the curves as ``{term: {"train" or "validation": curve}}``, total loss first."""
    terms: dict[str, dict[str, pd.Series]] = {TOTAL_LOSS: {}}
    for name, values in history.items():
        term, split = _term_and_split(name)
        curve = _as_curve(values)
        if split and term != NOT_DRAWN and len(curve) > 1 and curve.any():
            terms.setdefault(term, {})[split] = curve
    drawn = {term: curves for term, curves in terms.items() if curves}
    if not drawn:
        raise ValueError(
            "No loss curve of two epochs or more among the entries of the history: "
            f"{sorted(history)}."
        )
    return drawn


def _term_and_split(name: str) -> tuple[str, str]:
    """Split ``"kl_train"`` into ``("kl", "train")``; the split is empty if not a loss curve."""
    for split in STYLES:
        if name == f"{split}_loss":
            return TOTAL_LOSS, split
        if name.endswith(f"_{split}"):
            return name.removesuffix(f"_{split}"), split
    return name, ""


def _as_curve(values: Any) -> pd.Series:
    """Return the finite values of one history entry, indexed by epoch."""
    if isinstance(values, pd.DataFrame):
        values = values.iloc[:, 0]
    curve = pd.to_numeric(pd.Series(values), errors="coerce").astype(float)
    return curve[np.isfinite(curve)]


def _grid(n_panels: int) -> tuple[Figure, list[Axes]]:
    n_columns = min(n_panels, MAX_COLUMNS)
    n_rows = -(-n_panels // n_columns)
    width, height = PANEL_SIZE
    figure = new_figure((n_columns * width, n_rows * height + LEGEND_HEIGHT))
    return figure, [figure.add_subplot(n_rows, n_columns, i + 1) for i in range(n_panels)]


def _draw_term(ax: Axes, term: str, curves: dict[str, pd.Series], best_epoch: int | None) -> None:
    for split, style in STYLES.items():
        if split in curves:
            curve = curves[split]
            ax.plot(curve.index, curve.to_numpy(), label=split, linewidth=1.4, **style)
    if best_epoch is not None:
        ax.axvline(best_epoch, label="best epoch", **BEST_EPOCH_STYLE)
    values = pd.concat(list(curves.values()))
    if values.min() > 0 and values.max() > LOG_RANGE * values.min():
        ax.set_yscale("log")
    ax.set_title(_readable(term), fontsize=9)
    ax.set_xlabel("epoch", fontsize=8)
    ax.locator_params("x", integer=True)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def _readable(term: str) -> str:
    return " ".join(WORDS.get(word, word) for word in term.split("_"))
