"""Loss curves of a trained model, or of the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.module import WEIGHTED

from ._common import new_figure, plain, save_figure
from ._palette import BLUE, GREEN, ORANGE, PURPLE, VERMILLION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    # Of each term and part of the cells, a frame of epochs x folds.
    Curves = dict[str, dict[str, pd.DataFrame]]

TOTAL_LOSS, ADVERSARY = "total_loss", "adversary_ce"
# What is drawn by default, in this order, with the question that it answers.
TITLES = {
    "reconstruction_loss": "Does the reconstruction improve?",
    ADVERSARY: "Can the adversary predict the batch?",
    "label_ce": "Can the latent predict the cell type?",
    "batch_ce": "Can the latent predict the batch?",
    "kl_global": "How strong are the effects?",
    "kl_local": "How much information is in the latent?",
}
STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": BLUE, "linestyle": "-"},
    "validation": {"color": VERMILLION, "linestyle": "--"},
}
# The same term has the same colour in the figures of all models.
TERM_COLORS = {"reconstruction": BLUE, "adversary": VERMILLION, "kl": GREEN}
TERM_COLORS |= {"label": PURPLE, "batch": ORANGE}
OTHER_COLOR = "0.3"
BAND: dict[str, Any] = {"alpha": 0.2, "linewidth": 0}
BEST_EPOCH_STYLE: dict[str, Any] = {"color": "0.35", "linestyle": ":", "linewidth": 1.2}
CEILING_STYLE: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2}
CEILING_STYLE |= {"label": "ceiling: the batch cannot be predicted"}
WORDS = {"ce": "cross-entropy", "kl": "KL", "mse": "MSE", "mmd": "MMD"}
WORDS |= {"global": "of the effects", "local": "of the latent"}
WORDS |= {"selection": "criterion of the best epoch"}
# scvi-tools logs it for every model: these objectives are no bound on the evidence.
NOT_DRAWN = "elbo"
N_COLUMNS = 4
PANEL_SIZE = (3.0, 2.2)  # inches
LEGEND_HEIGHT = 0.5  # inches
LEGEND_STYLE: dict[str, Any] = {
    "loc": "outside lower center",
    "ncols": 2,
    "frameon": False,
    "fontsize": 9,
}
LOG_RANGE = 100.0


@with_shared_parts
def training(history: Any, *, every_term: bool = False, save: str | Path | None = None) -> Figure:
    """Draw the loss curves of a training, or of several folds.

    Of the package's models: the reconstruction; the adversary's cross-entropy, which rises to its
    ceiling where the batch cannot be predicted from the latent; and the cross-entropy of the cell
    types or the KL divergence of the random effects. Training is a solid line, validation a
    dashed one. The vertical axis is logarithmic where a term is positive throughout and spans
    more than two orders of magnitude.

    Parameters
    ----------
    history
        A trained model, or its ``history``: a dictionary of one-column data frames of shape
        ``(n_epochs, 1)`` indexed by epoch. Or a list of these, the folds of a cross-validation,
        as in ``histories`` of :class:`scmedal_tools.bm.CrossValidation`: lines are then means
        over the folds, bands go from the lowest to the highest, and both end with the shortest
        training. Drawn are ``train_loss`` and ``validation_loss``, as "total
        loss", and the names that end in ``_train`` or ``_validation``. Entries without at least
        two values, terms that are zero throughout and scvi-tools' ELBO are left out. Only a model
        has a ceiling, and a dotted line at its ``best_epoch_``.
    every_term
        Draw everything that was logged: first the total loss, then what each weighted term
        contributes to it, on one logarithmic axis (do the terms balance? scMEDAL, section 4.5),
        then the terms without their weights. So are histories without any of the terms above.
    %(save)s

    %(figure)s

    Raises
    ------
    ValueError
        If a model is not trained, nothing in the history is a curve, or the folds have different
        terms.

    Notes
    -----
    The ceiling is the entropy of the batches of the training cells: what a guess pays that knows
    only how frequent each batch is.

    Contributions are magnitudes: the paper's adversary is subtracted from the loss, and a
    reconstruction in nats can be negative. One that is zero, such as that of an adversary that
    cannot predict the batch, has no place on a logarithmic axis and leaves a gap. In nats, as by
    default, the reconstruction has an offset that trains nothing, and is meant to be the largest.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> figure = smt.pl.training(model)
    >>> figure.axes[0].get_title()
    'Does the reconstruction improve?'
    """
    sources = _sources(history)
    terms = _curves_by_term([_history_of(source) for source in sources])
    main = {term: terms[term] for term in TITLES if term in terms}
    terms = main if main and not every_term else terms
    weighted = {term: curves for term, curves in terms.items() if term.startswith(WEIGHTED)}
    alone = {term: curves for term, curves in terms.items() if term not in weighted}
    found = [getattr(source, "best_epoch_", None) for source in sources]
    best_epochs = [epoch for epoch in found if epoch is not None]
    ceilings = _ceilings(sources) if ADVERSARY in alone else []

    figure, axes, wide = _grid(len(alone), bool(weighted))
    for ax, (term, curves) in zip(axes, alone.items(), strict=True):
        _draw_term(ax, term, curves)
        for ceiling in ceilings if term == ADVERSARY else []:
            ax.axhline(ceiling, **CEILING_STYLE)
    if wide is not None:
        _draw_contributions(wide, weighted)
    for ax in figure.axes:
        _finish(ax, best_epochs)
    entries = _entries(terms, len(sources), best_epochs)
    entries += [Line2D([], [], **CEILING_STYLE)] if ceilings else []
    figure.legend(handles=entries, **LEGEND_STYLE)
    save_figure(figure, save)
    return figure


def _sources(history: Any) -> list:
    """Models or histories, one for each fold."""
    is_one = isinstance(history, Mapping) or hasattr(history, "history")
    if not is_one and not isinstance(history, Iterable):
        raise TypeError(
            f"This is {type(history).__name__}, and a trained scMEDAL model is needed, its "
            "history, or a list of these."
        )
    sources = [history] if is_one else list(history)
    if not sources:
        raise ValueError("The list is empty: give at least one trained model or its history.")
    return sources


def _history_of(source: Any) -> Mapping[str, Any]:
    history = getattr(source, "history", source)
    if not history and getattr(source, "is_trained", False):
        raise ValueError(
            "The model was trained with another logger, which has the losses: "
            "model.trainer.logger. To draw them here, train without the argument `logger`."
        )
    if not history:
        raise ValueError("There is no training history: train the model first.")
    return history


def _ceilings(sources: Sequence[Any]) -> list[float]:
    """Entropy of the batches of the training cells, of those that are models."""
    modules = [source.module for source in sources if hasattr(source, "module")]
    return [float(module.batch_entropy) for module in modules]


def _curves_by_term(histories: Sequence[Mapping[str, Any]]) -> Curves:
    """Group the curves as ``{term: {"train" or "validation": epochs x folds}}``, total first."""
    terms: Curves = {TOTAL_LOSS: {}}
    for name in dict.fromkeys(name for history in histories for name in history):
        term, split = _term_and_split(name)
        if not split or term == NOT_DRAWN:
            continue
        if not all(name in history for history in histories):
            raise ValueError(f"Some folds have no {name!r}: pass trainings of the same kind.")
        folds = [_as_curve(history[name]) for history in histories]
        curves = pd.concat(folds, axis=1, join="inner")
        if len(curves) > 1 and curves.to_numpy().any():
            terms.setdefault(term, {})[split] = curves
    drawn = {term: curves for term, curves in terms.items() if curves}
    if not drawn:
        names = sorted(set().union(*histories))
        raise ValueError(
            f"No loss curve of two epochs or more among the entries of the history: {names}."
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


def _grid(n_terms: int, has_contributions: bool) -> tuple[Figure, list[Axes], Axes | None]:
    """Panels of the terms, and between the first two a wide one for the contributions."""
    n_slots = n_terms + 2 * has_contributions
    n_columns = min(n_slots, N_COLUMNS)
    n_rows = -(-n_slots // n_columns)
    width, height = PANEL_SIZE
    figure = new_figure((n_columns * width, n_rows * height + LEGEND_HEIGHT))
    grid = figure.add_gridspec(n_rows, n_columns)
    slots = [grid[divmod(slot, n_columns)] for slot in range(n_slots)]
    first = [figure.add_subplot(slots[0])] if n_terms else []
    wide = figure.add_subplot(grid[0, 1:3]) if has_contributions else None
    others = slots[len(first) + 2 * has_contributions :]
    return figure, first + [figure.add_subplot(slot) for slot in others], wide


def _draw_term(ax: Axes, term: str, curves: dict[str, pd.DataFrame]) -> None:
    for split, of_split in curves.items():
        _draw_curve(ax, of_split, label=split, **STYLES[split])
    values = np.concatenate([of_split.to_numpy().ravel() for of_split in curves.values()])
    if values.min() > 0 and values.max() > LOG_RANGE * values.min():
        ax.set_yscale("log")
    if term in TITLES:
        ax.set_ylabel(_readable(term), fontsize=8)
    ax.set_title(TITLES.get(term, plain(_readable(term))), fontsize=9)


def _draw_contributions(ax: Axes, weighted: Curves) -> None:
    ax.set_yscale("log", nonpositive="mask")
    for name, curves in weighted.items():
        term = name.removeprefix(WEIGHTED)
        color = TERM_COLORS.get(term, OTHER_COLOR)
        for split, of_split in curves.items():
            linestyle = STYLES[split]["linestyle"]
            _draw_curve(ax, of_split.abs(), label=f"_{split}", color=color, linestyle=linestyle)
        ax.plot([], [], color=color, label=plain(_readable(term)))
    ax.set_title("weighted contributions (magnitude)", fontsize=9)
    # Below the curves: on a logarithmic axis there is no place that none of them crosses.
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.3),
        ncols=len(weighted),
        fontsize=7,
        frameon=False,
    )


def _draw_curve(ax: Axes, folds: pd.DataFrame, *, color: str, **style: Any) -> None:
    """Mean over the folds and, of several, a band from the lowest to the highest."""
    ax.plot(folds.index, folds.mean(axis=1), color=color, linewidth=1.4, **style)
    if folds.shape[1] > 1:
        low, high = folds.min(axis=1), folds.max(axis=1)
        ax.fill_between(folds.index, low, high, color=color, **BAND)


def _finish(ax: Axes, best_epochs: list[int]) -> None:
    for epoch in best_epochs:
        ax.axvline(epoch, label="best epoch", **BEST_EPOCH_STYLE)
    ax.set_xlabel("epoch", fontsize=8)
    ax.locator_params("x", integer=True)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def _entries(terms: Curves, n_folds: int, best_epochs: list[int]) -> list[Line2D]:
    """Legend of all panels."""
    of_folds = f" (mean and range of {n_folds} folds)" if n_folds > 1 else ""
    drawn = {split for curves in terms.values() for split in curves}
    entries = [
        Line2D([], [], label=f"{split}{of_folds}", **style)
        for split, style in STYLES.items()
        if split in drawn
    ]
    if best_epochs:
        entries.append(Line2D([], [], label="best epoch", **BEST_EPOCH_STYLE))
    return entries


def _readable(term: str) -> str:
    return " ".join(WORDS.get(word, word) for word in term.split("_"))
