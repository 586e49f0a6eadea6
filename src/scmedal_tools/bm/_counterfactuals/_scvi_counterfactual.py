"""Counterfactuals of scVI, in the units of log-normalised expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._counterfactual_of_counts import counterfactual_of_counts

if TYPE_CHECKING:
    from scvi.model import SCVI

    from ._baselines import Counterfactual


def scvi_counterfactual(
    model: SCVI, total_counts: np.ndarray, *, target_sum: float = 1e4, n_samples: int = 10
) -> Counterfactual:
    """Make a trained scVI model a method for :func:`counterfactual_shift`.

    The mean of log-normalised counts is not the log of their mean. Counts are therefore drawn
    from scVI's posterior predictive distribution under ``transform_batch``, and normalised as
    measured counts are.

    Parameters
    ----------
    model
        Trained on the counts of the same cells.
    total_counts
        Counts of each cell over all genes, by which it was normalised; shape ``(n_cells,)``.
    target_sum
        Counts of a cell after normalisation.
    n_samples
        Draws for each cell.

    Returns
    -------
    Callable
        Function of positions of cells and a target batch.

    Examples
    --------
    >>> import numpy as np
    >>> import scmedal_tools as smt
    >>> import scvi
    >>> scvi.model.SCVI.setup_anndata(adata, layer="counts", batch_key="donor")
    >>> scvi_model = scvi.model.SCVI(adata)
    >>> scvi_model.train(max_epochs=1, enable_progress_bar=False)
    >>> total_counts = np.asarray(adata.layers["counts"].sum(axis=1)).ravel()
    >>> method = smt.bm.scvi_counterfactual(scvi_model, total_counts)
    >>> method(np.arange(10), "donor_02").shape
    (10, 60)

    Beside a model of this package:

    >>> methods = {"scVI": method, "RE": model}
    >>> shifts = smt.bm.counterfactual_shift(
    ...     methods, adata, "donor", "cell_type", min_cells=5, baselines=False, progress=False
    ... )
    >>> shifts["method"].unique().tolist()
    ['scVI', 'RE']
    """

    def draw(cells: np.ndarray, target: str) -> np.ndarray:
        counts = model.posterior_predictive_sample(
            indices=cells, transform_batch=[target], n_samples=n_samples
        )
        counts = counts.todense() if hasattr(counts, "todense") else np.asarray(counts)
        return counts.reshape(len(cells), model.adata.n_vars, n_samples).transpose(2, 0, 1)

    return counterfactual_of_counts(draw, total_counts, target_sum)
