"""How well counterfactuals recover the known effects of simulated data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scmedal_tools import tl
from scmedal_tools._data import check_in_memory, dense
from scmedal_tools.datasets import true_shift

from ._baselines import additive, least_squares
from ._registered_expression import registered_expression

if TYPE_CHECKING:
    from anndata import AnnData

    from scmedal_tools.model import SCMEDAL_RE

    from ._baselines import Counterfactual

RECOVERY_METRICS = ("correlation", "slope", "relative_error")
RECOVERY_COLUMNS = ("method", "cell_type", "source", "target", *RECOVERY_METRICS)


def effect_recovery(
    model: SCMEDAL_RE | Sequence[SCMEDAL_RE],
    adata: AnnData,
    *,
    labels_key: str = "cell_type",
    min_cells: int = 10,
) -> pd.DataFrame:
    """Compare predicted donor effects with the truth of :func:`scmedal_tools.datasets.simulated`.

    For donors A and B and a cell type, the model's shift is the mean over A's cells of the
    counterfactual to B minus the reconstruction. It stands beside two baselines on the
    log-normalised data: *additive*, mean(B) - mean(A) over all cells of the donors, and *least
    squares* on donor + cell type, which is given the types.

    Parameters
    ----------
    model
        Trained on ``adata``; or several, an ensemble.
    adata
        Simulated, preprocessed cells, in memory.
    labels_key
        Column with the cell types.
    min_cells
        Fewest cells of the type in A.

    Returns
    -------
    pandas.DataFrame
        A row for each method and (type, A, B): ``correlation`` over genes of estimated and true
        effect, calibration ``slope`` of the true on the estimated, and ``relative_error``, the
        squared error over the squared norm of the truth. NaN where nothing varies.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> recovery = smt.bm.effect_recovery(model, adata, min_cells=5)
    >>> recovery.groupby("method").size()
    method
    RE                                  27
    additive                            27
    least squares (given cell types)    27
    dtype: int64
    """
    check_in_memory(adata)
    models = list(model) if isinstance(model, Sequence) else [model]
    for of_ensemble in models:
        tl.check_has_random_effects(of_ensemble)
    name = name_of(models[0]) if len(models) == 1 else f"{len(models)} x {name_of(models[0])}"
    batch_key = models[0].registry["setup_args"]["batch_key"]
    donors = list(models[0].batch_names)
    shifts = tl.counterfactual_means(models, adata, donors, labels_key=labels_key)
    shifts = shifts[shifts.obs["n_cells"] >= min_cells]
    expression = registered_expression(models, adata)
    columns = (adata.obs[key].astype(str).to_numpy() for key in (batch_key, labels_key))
    given = dense(expression), *columns
    baselines = {
        "additive": additive(*given),
        "least squares (given cell types)": least_squares(*given),
    }
    rows = []
    for group, predicted in zip(shifts.obs.itertuples(), shifts.X, strict=True):
        if group.source == group.target:
            continue
        scenario = {"cell_type": group.cell_type, "source": group.source, "target": group.target}
        truth = true_shift(adata, **scenario).to_numpy()
        estimates = {name: predicted} | {
            name: effects.shift(**scenario) for name, effects in baselines.items()
        }
        for method, estimate in estimates.items():
            rows.append({"method": method, **scenario, **agreement(estimate, truth)})
    return pd.DataFrame(rows, columns=RECOVERY_COLUMNS)


def name_of(model: SCMEDAL_RE | Counterfactual) -> str:
    """Name of a method in tables and figures: ``RE``, or that of the function."""
    return getattr(model, "__name__", type(model).__name__).removeprefix("SCMEDAL_")


def agreement(estimate: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Correlation, calibration slope and relative squared error over genes; NaN for 0 / 0."""
    covariances = np.cov(estimate, truth, ddof=0)  # ddof=1 is not defined for one gene
    (variance, covariance), (_, true_variance) = covariances
    size = np.square(truth).sum()
    values = (
        covariance / np.sqrt(variance * true_variance) if variance and true_variance else np.nan,
        covariance / variance if variance else np.nan,
        np.square(estimate - truth).sum() / size if size else np.nan,
    )
    return dict(zip(RECOVERY_METRICS, map(float, values), strict=True))
