"""Counterfactuals of MrVI, in the units of log-normalised expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scmedal_tools._compat import minibatches_of

from ._counterfactual_of_counts import counterfactual_of_counts

if TYPE_CHECKING:
    from scvi.external import MRVI

    from ._baselines import Counterfactual


def mrvi_counterfactual(
    model: MRVI, total_counts: np.ndarray, *, target_sum: float = 1e4, n_samples: int = 10
) -> Counterfactual:
    """Make a trained MrVI model a method for :func:`counterfactual_shift`.

    A cell's *u* is drawn from its own sample, *z* is what *u* is in the target sample. Counts are
    drawn from the likelihood of *z* and normalised as measured counts are.

    Parameters
    ----------
    model
        Trained on the counts of the same cells, the batch as ``sample_key``.
    total_counts, target_sum, n_samples
        See :func:`scvi_counterfactual`.

    Returns
    -------
    Callable
        Function of positions of cells and a target sample; ``ValueError`` if there is no such.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> import scmedal_tools as smt
    >>> from scvi.external import MRVI
    >>> MRVI.setup_anndata(adata, layer="counts", sample_key="donor")
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # it says that it is new
    ...     mrvi = MRVI(adata)
    >>> mrvi.train(max_epochs=1, enable_progress_bar=False)
    >>> total_counts = np.asarray(adata.layers["counts"].sum(axis=1)).ravel()
    >>> method = smt.bm.mrvi_counterfactual(mrvi, total_counts)
    >>> method(np.arange(10), "donor_02").shape
    (10, 60)
    """
    samples = [str(name) for name in model.sample_order]

    @torch.inference_mode()
    def draw(cells: np.ndarray, target: str) -> np.ndarray:
        if target not in samples:
            raise ValueError(f"MrVI knows no sample '{target}'. Its samples: {samples}.")
        parts = []
        for tensors in minibatches_of(model, cells):
            moved = torch.full_like(tensors["sample"], samples.index(target))
            _, generative = model.module(
                tensors,
                inference_kwargs={"cf_sample": moved, "mc_samples": n_samples},
                compute_loss=False,
            )
            parts.append(generative["px"].sample().cpu().numpy())
        return np.concatenate(parts, axis=1)

    return counterfactual_of_counts(draw, total_counts, target_sum)
