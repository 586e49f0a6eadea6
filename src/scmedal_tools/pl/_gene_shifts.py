"""Predicted and measured shifts of genes, for one counterfactual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmedal_tools._data import as_named, check_obs
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.bm import (
    agreement,
    as_counterfactual,
    combinations_of,
    known_cells,
    registered_expression,
)
from scmedal_tools.model import LEAST_SUPPORTED

from ._common import axes_of, figure_of, folded, plain, save_figure
from ._name_points import name_points
from ._palette import BLUE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from scipy import sparse

    from scmedal_tools.bm import Counterfactual
    from scmedal_tools.model import SCMEDAL_RE

IDENTITY: dict[str, Any] = {"color": "0.5", "linestyle": "--", "linewidth": 1, "zorder": 0}
FILLED: dict[str, Any] = {"color": BLUE, "linewidths": 0}
HOLLOW: dict[str, Any] = {"facecolors": "none", "edgecolors": BLUE, "linewidths": 0.7}


@with_shared_parts
def gene_shifts(
    model: SCMEDAL_RE | Counterfactual,
    adata: AnnData,
    batch_key: str,
    labels_key: str,
    *,
    cell_type: str,
    source: str,
    target: str,
    train: Sequence[int] | np.ndarray | None = None,
    test: Sequence[int] | np.ndarray | None = None,
    n_names: int = 8,
    supported: pd.DataFrame | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw measured against predicted shifts of all genes, from one batch to another in a type.

    The shifts and the correlation in the title are those of
    :func:`scmedal_tools.bm.counterfactual_shift`: predicted from training cells of the source,
    measured on test cells of both. The dashed line is where they are equal. Measured shifts
    contain the noise of their cells: not all of the spread about the line is the model's error.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`; or a function ``(cells, target)``, see
        :func:`scmedal_tools.bm.counterfactual_shift`.
    adata
        Preprocessed cells; the expression is in ``adata.X``, or the layer with which the
        model was registered.
    %(columns)s
    cell_type, source, target
        Cell type, and the batches from and to which its cells go.
    train, test
        Positions of the cells to predict from and of those to measure on; by default the model's.
    n_names
        Number of genes to name: those with the largest shift, predicted or measured. Names cover
        neither points nor each other: where there is no place beside its point, a name stands
        farther away with a line to it; one without a place there either is left out.
    supported
        Result of :func:`scmedal_tools.tl.admissibility` for the source's training cells. Where the
        target supports less than half of those in the type, points are hollow: the prediction is
        an extrapolation.
    %(ax)s
    %(save)s

    Returns
    -------
    matplotlib.axes.Axes
        Predicted shifts on the horizontal axis, measured ones on the vertical, in
        log-expression.

    Raises
    ------
    ValueError
        If training or test cells are not known, or there are no cells to predict from or to
        measure on, or ``supported`` lacks the target or some of the cells.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> ax = smt.pl.gene_shifts(
    ...     model,
    ...     adata,
    ...     "donor",
    ...     "cell_type",
    ...     cell_type="type_1",
    ...     source="donor_01",
    ...     target="donor_02",
    ... )
    >>> ax.get_title()
    'donor_01 → donor_02 (type_1)...correlation ...'
    """
    check_obs(adata, batch_key)
    check_obs(adata, labels_key, what="labels_key", min_levels=1)
    predict = as_counterfactual(model, adata)
    parts = known_cells({"model": model}, adata, train, test)
    batches, labels = (as_named(adata.obs[key]).to_numpy() for key in (batch_key, labels_key))
    cells = _cells(batches, labels, *parts, str(cell_type), str(source), str(target))
    is_supported = _is_supported(supported, adata.obs_names[cells[0]], str(target))
    shifts = _shifts(
        predict,
        registered_expression([model], adata),
        adata.var_names,
        str(source),
        str(target),
        *cells,
    )

    ax = axes_of(ax, (4.0, 4.0))
    ax.axline((0, 0), slope=1, **IDENTITY)
    ax.scatter(
        shifts["predicted"],
        shifts["measured"],
        s=10,
        alpha=0.6,
        rasterized=True,
        **(FILLED if is_supported else HOLLOW),
    )
    correlation = agreement(*shifts.to_numpy().T)["correlation"]
    of = plain(folded(f"{source} → {target} ({cell_type})", 3.8, 9))
    hollow = "" if is_supported else "\nhollow: few similar cells in the target"
    ax.set_title(f"{of}\ncorrelation {correlation:.2f}{hollow}", fontsize=9)
    ax.set_xlabel("predicted shift", fontsize=8)
    ax.set_ylabel("measured shift", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    named = shifts.loc[shifts.abs().max(axis=1).nlargest(n_names).index]
    ends = np.clip(ax.get_xlim(), *ax.get_ylim())  # of the diagonal
    name_points(
        ax,
        named.to_numpy(),
        list(map(plain, named.index)),
        shifts.to_numpy(),
        x_lines=[ends],
        y_lines=[ends],
        textsize=7,
    )
    save_figure(figure_of(ax), save)
    return ax


def _cells(
    batches: np.ndarray,
    labels: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    cell_type: str,
    source: str,
    target: str,
) -> list[np.ndarray]:
    """Positions of the source's training and test cells, and the target's test cells."""
    found = []
    for part, cells, batch in [
        ("training", train, source),
        ("test", test, source),
        ("test", test, target),
    ]:
        of_part = combinations_of(batches, labels, cells)
        if (batch, cell_type) not in of_part:
            raise ValueError(
                f"No {part} cells of {cell_type!r} in {batch!r}: choose another combination, for "
                "example one of bm.counterfactual_shift."
            )
        found.append(of_part[batch, cell_type])
    return found


def _is_supported(supported: pd.DataFrame | None, names: pd.Index, target: str) -> bool:
    if supported is None:
        return True
    if target not in supported or not names.isin(supported.index).all():
        raise ValueError(
            f"supported has no column {target!r}, or lacks cells to predict from: pass "
            "tl.admissibility(model) of a model that was trained on these cells."
        )
    return bool(supported.loc[names, target].mean() >= LEAST_SUPPORTED)


def _shifts(
    counterfactual: Counterfactual,
    expression: np.ndarray | sparse.csr_matrix,
    genes: pd.Index,
    source: str,
    target: str,
    from_cells: np.ndarray,
    of_source: np.ndarray,
    of_target: np.ndarray,
) -> pd.DataFrame:
    """Predicted and measured shift of each gene."""
    predicted = counterfactual(from_cells, target).mean(0)
    predicted = predicted - counterfactual(from_cells, source).mean(0)
    measured = expression[of_target].mean(0) - expression[of_source].mean(0)
    measured = np.asarray(measured).ravel()
    return pd.DataFrame({"predicted": predicted, "measured": measured}, genes)
