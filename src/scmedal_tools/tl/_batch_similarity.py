"""How similar batches are in their effects on the genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform

from scmedal_tools._docs import with_shared_parts
from scmedal_tools._progress import tqdm
from scmedal_tools.model import drawn_effects, position_of

from ._models import check_has_draws

if TYPE_CHECKING:
    from scmedal_tools.model import SCMEDAL_RE


@torch.inference_mode()
@with_shared_parts
def batch_similarity(
    model: SCMEDAL_RE,
    *,
    factor: str | None = None,
    n_samples: int = 50,
    n_cells: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    r"""Distances between batches by their effects on the expression of all genes.

    With the effect :math:`e_{kg}` of batch :math:`k` on gene :math:`g` in a posterior draw, a mean
    over cells, the distance of two batches is the root mean square over genes and draws

    .. math:: d_{kl} = \sqrt{\mathrm{mean}_{g,\,\mathrm{draws}}\, (e_{kg} - e_{lg})^2} .

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    factor
        Factor whose levels are compared, one of ``model.factors``; ``None`` for the batch.
    n_samples
        Number of posterior draws; the same for all batches, and seeded by
        ``scvi.settings.seed``.
    n_cells
        Number of training cells, drawn at random, over which effects are averaged; the same for
        all batches, so that their composition makes no difference.
    seed
        Seed of this choice.
    progress
        Show a progress bar over the draws.

    Returns
    -------
    pandas.DataFrame
        Symmetric, batches x batches, with zeros on the diagonal, in log-expression.

    Raises
    ------
    %(not_re)s
    ValueError
        If there are too few draws, the model has no such factor, or not its training cells.
    %(untrained)s

    See Also
    --------
    scmedal_tools.model.SCMEDAL_RE.get_batch_effects : The effects themselves.

    Notes
    -----
    What is not known about a batch counts as a difference: squares are averaged over draws, so
    that :math:`d^2` is the squared distance of the posterior means plus the posterior variance of
    the difference. The means alone, which are shrunk towards "no effect" where there are few
    cells, would make all small batches look similar. Here a batch about which little is known is
    far from all others, even from those of its kind, about as far as a new batch is expected to
    be.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> distances = smt.tl.batch_similarity(model, progress=False, n_samples=10)
    >>> distances.shape, list(distances.columns[:2])
    ((4, 4), ['donor_01', 'donor_02'])

    As a tree (:func:`scmedal_tools.pl.batch_dendrogram` draws it):

    >>> from scipy.cluster.hierarchy import linkage
    >>> from scipy.spatial.distance import squareform
    >>> linkage(squareform(distances.to_numpy()), "average").shape
    (3, 4)
    """
    check_has_draws(model, n_samples)
    position = position_of(model, factor)
    draws = drawn_effects(model, position, n_samples, n_cells, seed)
    bar = tqdm(draws, total=n_samples, disable=not progress, desc="Draws")
    squares = sum(pdist(effects.numpy(), "sqeuclidean") / effects.shape[1] for effects in bar)
    names = list(model.factors.values())[position]
    return pd.DataFrame(squareform(np.sqrt(squares / n_samples)), names, names)
