"""Which donors are similar, and in which cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform
from scvi import settings

from scmedal_tools._gene_model import NETWORK_SHARE

from ._groups_of_cells import groups_of_cells
from ._models import check_has_draws

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE


@torch.inference_mode()
def donor_distances(
    model: SCMEDAL_RE,
    adata: AnnData | MuData | None = None,
    *,
    by: str | None = "state",
    factor: str | None = None,
    n_samples: int = 50,
    n_cells: int = 2_000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Distances between donors in every group of cells, by what they do to the genes.

    MrVI's question: donors may be similar in their T cells and differ in their monocytes. With the
    effect :math:`e_{kgs}` of donor :math:`k` on gene :math:`g`, averaged over the cells of group
    :math:`s`, in a posterior draw, the distance is

    .. math:: d_{kls} = \sqrt{\mathrm{mean}_{g,\,\mathrm{draws}}\, (e_{kgs} - e_{lgs})^2} .

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    adata, by, factor, seed
        See :func:`donor_embedding`.
    n_samples
        Number of posterior draws of the effects on single genes, seeded by
        ``scvi.settings.seed``.
    n_cells
        Number of cells, drawn at random, that are averaged over, of all groups together.

    Returns
    -------
    pandas.DataFrame
        Rows ``(group, donor)``, columns donors: ``distances.loc["T cells"]`` is a symmetric table
        with zeros on its diagonal, in the units of the input.

    Raises
    ------
    TypeError
        If the model is not a ``SCMEDAL_RE``.
    ValueError
        If it has no effects on single genes, no such factor, or not its training cells, there is
        no column ``by``, or there are no draws.
    RuntimeError
        If it is not trained.

    See Also
    --------
    batch_similarity : The same over all cells, with draws of the whole network.

    Notes
    -----
    What is not known counts as a difference, as in :func:`batch_similarity`: a donor that has
    hardly any cells of a group is far from all others there. What of the effects the network
    guessed is held at its posterior mean.

    References
    ----------
    Boyeau et al., Nature Methods 2025 (MrVI).

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> distances = smt.tl.donor_distances(model, by="cell_type", n_samples=10)
    >>> distances.loc["type_1"].shape
    (4, 4)
    """
    check_has_draws(model, n_samples)
    position = model._position(factor)
    groups = groups_of_cells(model, adata, by, position, n_cells, seed)
    effects, scale = model.module.gene_effects, model.module.scaler.scale.cpu().double()
    correction = effects.factors[position].correction.cpu().double()
    guess = NETWORK_SHARE * groups.of_network
    guess = guess + torch.einsum("us,ksg->ukg", groups.shares, correction)
    generator = torch.Generator().manual_seed(settings.seed or 0)
    squares = np.zeros(())
    for _ in range(n_samples):
        draw = effects.draw(generator)
        alone = torch.einsum("us,ksg->ukg", groups.shares, draw.effects[position].cpu().double())
        drawn = scale * (alone + draw.follows.cpu().double() * guess)
        squares = squares + np.stack([pdist(of_group, "sqeuclidean") for of_group in drawn])
    distances = np.sqrt(squares / (n_samples * len(model.gene_names)))
    names = [str(name) for name in list(model.factors.values())[position]]
    tables = [pd.DataFrame(squareform(of_group), names, names) for of_group in distances]
    return pd.concat(tables, keys=groups.names, names=["group", "donor"])
