"""Which donors are similar, and in which cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.spatial.distance import pdist, squareform
from scvi import settings

from scmedal_tools._docs import with_shared_parts
from scmedal_tools._gene_model import NETWORK_SHARE
from scmedal_tools.model import position_of

from ._groups_of_cells import CellGroups, groups_of_cells
from ._models import check_has_draws

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE


class DonorDistances(NamedTuple):
    """Result of :func:`donor_distances`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> found = smt.tl.donor_distances(model, by="cell_type", n_samples=10)
    >>> ratio = found.distance / found.sd
    >>> ratio.loc["type_1"].shape
    (4, 4)
    """

    distance: pd.DataFrame
    """Rows ``(group, donor)``, columns donors: symmetric in each group, zero on its diagonal."""
    sd: pd.DataFrame
    """Posterior standard deviation of the difference between the effects of two donors."""
    n_cells: pd.DataFrame
    """Training cells of each donor for the effects on a group, groups x donors."""


@torch.inference_mode()
@with_shared_parts
def donor_distances(
    model: SCMEDAL_RE,
    adata: AnnData | MuData | None = None,
    *,
    by: str | None = "state",
    factor: str | None = None,
    n_samples: int = 50,
    n_cells: int = 2_000,
    seed: int = 0,
) -> DonorDistances:
    r"""Distances between donors in every group of cells, by what they do to the genes.

    MrVI's question: donors may be similar in their T cells and differ in their monocytes. With the
    effect :math:`e_{kgs}` of donor :math:`k` on gene :math:`g`, averaged over the cells of group
    :math:`s`, in a posterior draw, the distance is

    .. math:: d_{kls} = \sqrt{\mathrm{mean}_{g,\,\mathrm{draws}}\, (e_{kgs} - e_{lgs})^2} .

    ``sd`` is the posterior standard deviation of the difference, the root of the mean, over
    genes, of the variance of :math:`e_{kgs} - e_{lgs}` over the draws. Read distances as multiples
    of it: up to about 1.4 occur without any difference.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`.
    adata, by, factor, seed
        See :func:`donor_embedding`.
    n_samples
        Number of posterior draws of the effects on single genes, 2 or more, seeded by
        ``scvi.settings.seed``.
    n_cells
        Number of cells, drawn at random, that are averaged over, of all groups together.

    Returns
    -------
    DonorDistances
        ``distance`` and ``sd``, in log-expression, with rows ``(group, donor)`` and donors as
        columns: ``found.distance.loc["T cells"]`` is a symmetric table. ``n_cells``, groups x
        donors: training cells of the donor in the states of the group, each state counted as far
        as its cells are of the group.

    Raises
    ------
    %(not_re)s
    ValueError
        If it has no effects on single genes, no such factor, or not its training cells, there is
        no column ``by``, or there are fewer than two draws.
    %(untrained)s

    See Also
    --------
    batch_similarity : The same over all cells, with draws of the whole network.

    Notes
    -----
    What is not known counts as a difference, as in :func:`batch_similarity`: a donor that has
    hardly any cells of a group is far from all others there, but the posterior standard deviation
    is as large: their ratio is near 1. The square of a distance is the posterior variance of the
    difference and the square of its posterior mean. Where donors do not differ, means scatter too,
    by up to the posterior standard deviation, so that ratios go up to about :math:`\sqrt 2`. The
    part of the effects that follows the network is held at its posterior mean.

    References
    ----------
    Boyeau et al., Nature Methods 2025 (MrVI).

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> found = smt.tl.donor_distances(model, by="cell_type", n_samples=10)
    >>> found.distance.loc["type_1"].shape
    (4, 4)
    """
    check_has_draws(model, n_samples)
    if n_samples == 1:
        raise ValueError("n_samples=1 gives no standard deviation: pass 2 or more.")
    position = position_of(model, factor)
    groups = groups_of_cells(model, adata, by, position, n_cells, seed)
    effects, scale = model.module.gene_effects, model.module.scaler.scale.cpu().double()
    correction = effects.factors[position].correction.cpu().double()
    guess = NETWORK_SHARE * groups.of_network
    guess = guess + torch.einsum("us,ksg->ukg", groups.shares, correction)
    generator = torch.Generator().manual_seed(settings.seed or 0)
    squares, total = np.zeros(()), torch.zeros(())
    for _ in range(n_samples):
        draw = effects.draw(generator)
        alone = torch.einsum("us,ksg->ukg", groups.shares, draw.effects[position].cpu().double())
        drawn = scale * (alone + draw.follows.cpu().double() * guess)
        squares = squares + _squares(drawn)
        total = total + drawn
    of_means = _squares(total / n_samples)
    variances = (squares / n_samples - of_means) * n_samples / (n_samples - 1)
    names = [str(name) for name in list(model.factors.values())[position]]
    return DonorDistances(
        _tables(np.sqrt(squares / n_samples), groups.names, names),
        _tables(np.sqrt(variances.clip(0)), groups.names, names),
        _n_cells(groups, effects.factors[position].sizes.cpu().double(), names),
    )


def _squares(effects: torch.Tensor) -> np.ndarray:
    """Mean squared difference of each pair of donors over the genes, groups x pairs."""
    n_genes = effects.shape[2]
    return np.stack([pdist(of_group, "sqeuclidean") for of_group in effects]) / n_genes


def _tables(pairs: np.ndarray, groups: list[str], names: list[str]) -> pd.DataFrame:
    tables = [pd.DataFrame(squareform(of_group), names, names) for of_group in pairs]
    return pd.concat(tables, keys=groups, names=["group", "donor"])


def _n_cells(groups: CellGroups, sizes: torch.Tensor, names: list[str]) -> pd.DataFrame:
    """Cells of each donor in the states of a group, by the share of a state in the group."""
    in_states = groups.shares * torch.from_numpy(groups.n_cells)[:, None]
    of_group = in_states / in_states.sum(0).clamp_min(1)
    return pd.DataFrame((of_group @ sizes.T).numpy(), groups.names, names)
