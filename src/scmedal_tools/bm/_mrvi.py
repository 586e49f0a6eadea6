"""MrVI's counterfactuals, in the units of log-normalised expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from scvi.external import MRVI

    from ._baselines import Counterfactual


def mrvi_counterfactual(
    model: MRVI, total_counts: np.ndarray, *, target_sum: float = 1e4, n_samples: int = 10
) -> Counterfactual:
    """Make a trained MrVI model a method for :func:`counterfactual_shift`.

    A cell's *u* is drawn from its own sample, *z* is what *u* is in the target sample. Counts are
    drawn from the likelihood of *z* and normalised as measured counts are; see
    :func:`scvi_counterfactual`.

    Parameters
    ----------
    model
        Trained on the counts of the same cells, the batch as ``sample_key``.
    total_counts
        Counts of each cell over all genes, by which it was normalised; shape ``(n_cells,)``.
    target_sum
        Counts of a cell after normalisation.
    n_samples
        Draws for each cell.

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
    factors = target_sum / np.asarray(total_counts, dtype=float)
    samples = [str(name) for name in model.sample_order]

    def counterfactual(cells: np.ndarray, target: str) -> np.ndarray:
        if target not in samples:
            raise ValueError(f"MrVI knows no sample '{target}'. Its samples: {samples}.")
        code, parts = samples.index(target), []
        # Of its own, so that results can be repeated and the user's generator is left alone.
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(0)
            for tensors in model._make_data_loader(adata=model.adata, indices=cells):
                moved = torch.full_like(tensors["sample"], code)
                _, generative = model.module(
                    tensors,
                    inference_kwargs={"cf_sample": moved, "mc_samples": n_samples},
                    compute_loss=False,
                )
                parts.append(generative["px"].sample().cpu().numpy())
        counts = np.concatenate(parts, axis=1)  # draws x cells x genes
        return np.log1p(counts * factors[cells, None]).mean(0)

    return counterfactual
