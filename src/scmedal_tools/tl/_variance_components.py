"""How much of each gene's variance is due to the cells, to the batches, and to neither."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from scmedal_tools._data import check_cells, random_cells
from scmedal_tools._docs import with_shared_parts
from scmedal_tools._progress import tqdm
from scmedal_tools.model import blocks_at_levels, residuals

from ._models import check_has_draws, held_back_cells

if TYPE_CHECKING:
    from anndata import AnnData

    from scmedal_tools.model import SCMEDAL_RE


@torch.inference_mode()
@with_shared_parts
def variance_components(
    model: SCMEDAL_RE,
    adata: AnnData | None = None,
    *,
    n_samples: int = 20,
    n_cells: int = 500,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    r"""Variance of each gene between cells, between batches, and left unexplained.

    With the measured expression :math:`x_i` of cell :math:`i`, its reconstruction
    :math:`\hat x_i`, and its expression :math:`f_i(k)` in batch :math:`k` and :math:`f_i(0)` in
    the population, a batch without effects,

    .. math::

        \text{content} = \mathrm{var}_i\, f_i(0), \qquad
        \text{batch} = \mathrm{mean}_{i,\,k,\,\mathrm{draws}}\, (f_i(k) - f_i(0))^2, \qquad
        \text{residual} = \mathrm{mean}_i\, (x_i - \hat x_i)^2 .

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    adata
        Cells, best not used in training, with the genes and batches of the training data; by
        default the model's test cells, else its validation cells, else its training cells.
    n_samples
        Number of posterior draws of the random effects, seeded by ``scvi.settings.seed``.
    n_cells
        Number of these cells, drawn at random, for ``content`` and ``batch``; ``residual`` is of
        all of them.
    seed
        Seed of this choice.
    progress
        Show a progress bar over the draws.

    Returns
    -------
    pandas.DataFrame
        A row for each gene. ``content``, ``batch`` and ``residual`` are variances of
        log-expression; ``content_share``, ``batch_share`` and ``residual_share`` are those
        over their sum, and NaN for a gene that does not vary among the cells. Further factors of
        the model have columns of their own, under their names.

    Raises
    ------
    %(not_re)s
    ValueError
        If there are too few draws, or the cells do not fit the training data.
    %(untrained)s

    Notes
    -----
    ``batch`` is a variance component, as of a linear mixed model: that of batches in general, of
    which those in the data are a sample. All batches count equally, whatever their number of
    cells, and squares are averaged over draws, so what is not known about a batch is part of it.
    They are taken about the population, where effects have their mean, 0, and not about the mean
    of the batches in the data. Effects of a batch on all cells and on some cells only are one
    component. The components of several factors are each with the others in the population.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> components = smt.tl.variance_components(model, n_samples=10, progress=False)
    >>> components.filter(like="share").columns.tolist()
    ['content_share', 'batch_share', 'residual_share']
    >>> most = components["batch_share"].nlargest(5)
    >>> most.between(0, 1).all()
    np.True_
    """
    check_has_draws(model, n_samples)
    if adata is not None:
        check_cells(adata)
    cells = held_back_cells(model) if adata is None else None
    if cells is None:
        cells = np.arange(model.summary_stats.n_cells if adata is None else adata.n_obs)
    sample = random_cells(cells, n_cells, seed)
    residual, varies = _residual(model, adata, cells)
    components = pd.DataFrame(
        {
            "content": _content(model, adata, sample),
            **{
                name: _between_levels(model, adata, sample, factor, n_samples, progress)
                for factor, name in enumerate(["batch", *list(model.factors)[1:]])
            },
            "residual": residual,
        },
        model.gene_names,
    )
    shares = components.div(components.sum(axis=1).where(varies), axis=0)
    return components.join(shares.add_suffix("_share"))


def _content(model: SCMEDAL_RE, adata: AnnData | None, cells: np.ndarray) -> np.ndarray:
    population = model.get_corrected_expression(adata, cells, return_numpy=True)
    return population.var(0, dtype=np.float64)


def _between_levels(
    model: SCMEDAL_RE,
    adata: AnnData | None,
    cells: np.ndarray,
    factor: int,
    n_samples: int,
    progress: bool,
) -> np.ndarray:
    n_levels = model.module.n_levels[factor]
    blocks = blocks_at_levels(model, factor, adata, cells, n_samples)
    total, population = torch.zeros(()), torch.zeros(())
    with tqdm(total=n_samples, disable=not progress, desc="Draws") as bar:
        for block in blocks:
            if block.target is None:  # the first of a minibatch
                population = block.values
                continue
            total = total + (block.values - population).square().sum(0).cpu().double()
            bar.update(block.draw + (block.cells.stop == len(cells)) - bar.n)
    return (total / (n_samples * n_levels * len(cells))).numpy()


def _residual(
    model: SCMEDAL_RE, adata: AnnData | None, cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean square of what the reconstruction misses, and whether each gene varies."""
    total, low, high = (torch.tensor(start) for start in (0.0, torch.inf, -torch.inf))
    for x, missed in residuals(model, adata, cells):
        total = total + missed.square().sum(0).cpu().double()
        low, high = torch.minimum(x.amin(0), low), torch.maximum(x.amax(0), high)
    return (total / len(cells)).numpy(), (high > low).cpu().numpy()
