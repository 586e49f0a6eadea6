"""Counterfactuals of models of counts, in the units of log-normalised expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from scmedal_tools._compat import minibatches_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from scvi.external import MRVI
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

    return _normalised(draw, total_counts, target_sum)


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

    return _normalised(draw, total_counts, target_sum)


def _normalised(
    draw: Callable[[np.ndarray, str], np.ndarray], total_counts: np.ndarray, target_sum: float
) -> Counterfactual:
    """Mean logarithm of drawn counts, draws x cells x genes, normalised as measured ones are."""
    factors = target_sum / np.asarray(total_counts, dtype=float)

    def counterfactual(cells: np.ndarray, target: str) -> np.ndarray:
        # Of its own, so that results can be repeated and the user's generator is left alone.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            counts = draw(cells, target)
        return np.log1p(counts * factors[cells, None]).mean(0)

    return counterfactual
