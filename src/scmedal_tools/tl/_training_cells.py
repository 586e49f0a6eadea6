"""How many training cells the effects of each batch are estimated from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scvi import REGISTRY_KEYS

from scmedal_tools.model import states_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE


@torch.inference_mode()
def training_cells(model: SCMEDAL_RE, like: AnnData | MuData | None = None) -> pd.Series:
    """Number of training cells of each batch, NaN where it is not known.

    Parameters
    ----------
    model
        Trained model; a queried one has the cells of both trainings.
    like
        Count those in the states of these cells, in their shares: the mean over the cells of the
        batch's number in the cell's state. Without states, all.

    Returns
    -------
    Numbers, by the names of the batches.
    """
    effects = model.module.gene_effects
    if not model.module.has_gene_effects:
        return _registered(model)
    sizes = effects.factors[0].sizes.cpu()  # batches x states
    counts = sizes.sum(1) if like is None else sizes[:, states_of(model, like)].mean(1)
    return pd.Series(counts.numpy(), model.batch_names)


def _registered(model: SCMEDAL_RE) -> pd.Series:
    """Count the training cells that the model holds."""
    if model.is_query or model.adata is None or model.train_indices is None:
        return pd.Series(np.nan, model.batch_names)
    codes = model.adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).reshape(-1)
    counts = np.bincount(codes[model.train_indices], minlength=len(model.batch_names))
    return pd.Series(counts.astype(float), model.batch_names)
