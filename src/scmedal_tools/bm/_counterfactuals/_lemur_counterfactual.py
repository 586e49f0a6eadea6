"""LEMUR's counterfactuals, of the cells that it was fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from anndata import AnnData
    from pylemur.tl import LEMUR

    from ._baselines import Counterfactual


def lemur_counterfactual(model: LEMUR, adata: AnnData, batch_key: str) -> Counterfactual:
    """Make a fitted LEMUR model a method for :func:`counterfactual_shift`.

    Parameters
    ----------
    model
        Fitted to log-normalised expression, with a formula for its design, and aligned; LEMUR is
        in pylemur (with the ``benchmark`` extra).
    adata
        Cells to whose positions the counterfactual refers; those of the model are among them.
    batch_key
        Column with the batches, a term of the design. Others are held at their first level.

    Returns
    -------
    Callable
        Function of positions of cells and a target batch.

    Raises
    ------
    ValueError
        If the model is not fitted, names of cells are not unique, or, from the function, if it
        is asked for cells that the model was not fitted to.

    Notes
    -----
    pylemur 0.3.1 cannot align with Harmony where harmonypy is 2.0 or later. The example gives
    Harmony's soft clusters of LEMUR's embedding to ``align_with_grouping`` instead.

    Examples
    --------
    >>> import harmonypy
    >>> import numpy as np
    >>> import scmedal_tools as smt
    >>> from pylemur.tl import LEMUR
    >>> train = model.train_indices
    >>> lemur = LEMUR(adata[train], design="~ donor", n_embedding=15).fit(verbose=False)
    >>> harmony = harmonypy.run_harmony(lemur.embedding, lemur.adata.obs, "donor", verbose=False)
    >>> lemur = lemur.align_with_grouping(harmony.R.T, verbose=False)
    >>> method = smt.bm.lemur_counterfactual(lemur, adata, "donor")
    >>> method(train[:10], "donor_02").shape
    (10, 60)
    """
    if model.embedding is None:
        raise ValueError("The LEMUR model is not fitted: call its `fit` first.")
    fitted = pd.Index(model.adata.obs_names)
    if not (fitted.is_unique and adata.obs_names.is_unique):
        raise ValueError(
            "Names of cells are not unique: call `adata.obs_names_make_unique()` before LEMUR is "
            "fitted."
        )
    rows = fitted.get_indexer(adata.obs_names)

    def counterfactual(cells: np.ndarray, target: str) -> np.ndarray:
        own = rows[cells]
        if (own < 0).any():
            raise ValueError(
                f"LEMUR was not fitted to {(own < 0).sum()} of {len(own)} cells. Fit it to the "
                "training cells, `LEMUR(adata[train], ...)`, and pass these as `train`."
            )
        condition = model.cond(**{batch_key: target})
        return np.asarray(model.predict(model.embedding[own], new_condition=condition))

    return counterfactual
