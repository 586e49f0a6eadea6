"""Donors as points: what is known of the effects of each, and how well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scmedal_tools._docs import with_shared_parts
from scmedal_tools.model import position_of

from ._groups_of_cells import groups_of_cells
from ._models import check_has_draws

if TYPE_CHECKING:
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE


@with_shared_parts
def donor_embedding(
    model: SCMEDAL_RE,
    adata: AnnData | MuData | None = None,
    *,
    by: str | None = None,
    factor: str | None = None,
    n_cells: int = 1_000,
    seed: int = 0,
) -> AnnData:
    """Posterior mean and precision of every donor's effects, as donors x dimensions.

    A dimension is a gene or, with ``by``, a gene in a group of cells. All donors are compared in
    the same cells, so that their composition makes no difference.

    Parameters
    ----------
    model
        Trained :class:`~scmedal_tools.model.SCMEDAL_RE`, also one of
        :meth:`~scmedal_tools.model.SCMEDAL_RE.load_query_data`, whose new donors are among the
        rows.
    adata
        Cells to average over; ``None`` for the cells that the model was trained on, of a queried
        one those of the query. To have donors of the reference as they were, and the new ones
        beside them, give the cells of the reference.
    by
        ``"state"`` for the states of the model, a column of ``obs``, such as cell types, or
        ``None`` for all cells together.
    factor
        Factor whose levels are embedded, one of ``model.factors``; ``None`` for the batch.
    n_cells
        Number of cells, drawn at random, that are averaged over.
    seed
        Seed of this choice.

    Returns
    -------
    AnnData
        ``X``: posterior means, in log-expression; ``layers["precision"]``: one over the
        posterior variance. ``obs``: ``n_cells``, the number of training cells of the donor, and
        ``is_new``, whether it was added by ``load_query_data``. ``var``: ``gene``, and with ``by``
        ``group`` and ``n_cells``, the number of cells averaged over.

    Raises
    ------
    %(not_re)s
    ValueError
        If it has no effects on single genes, no such factor, or not its training cells, or there
        is no column ``by``.
    %(untrained)s

    See Also
    --------
    scmedal_tools.bm.donor_prediction : Whether donors' labels can be predicted from it.
    scmedal_tools.tl.donor_distances : Which donors are similar, in which cells.

    Notes
    -----
    Means are shrunk towards 0, "as donors are in general", the more the fewer cells a donor has.
    So donors with few cells lie near the origin: look at the precision before calling them
    average. Means and precisions are the exact moments of
    :meth:`~scmedal_tools.model.SCMEDAL_RE.get_batch_effects`.

    Donors that were in the training have been seen. What is claimed of donors in general has to
    hold for those that were left out of the training, and mapped.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> donors = smt.tl.donor_embedding(model, by="cell_type")
    >>> donors.shape  # 60 genes in three cell types
    (4, 180)
    >>> donors.var.iloc[0].to_dict()["group"]
    'type_1'
    >>> bool((donors.layers["precision"] > 0).all())
    True
    """
    check_has_draws(model, 1)
    position = position_of(model, factor)
    groups = groups_of_cells(model, adata, by, position, n_cells, seed)
    effects = model.module.gene_effects
    scale = model.module.scaler.scale.cpu().double()
    means, precisions = [], []
    for shares, of_network in zip(groups.shares, groups.of_network, strict=True):
        found = effects.averages(position, shares, of_network)
        means.append((scale * found.mean).numpy())
        precisions.append((scale * found.sd).square().reciprocal().numpy())
    n_genes, n_groups = len(model.gene_names), len(groups.names)
    var = pd.DataFrame({"gene": np.tile(model.gene_names, n_groups)})
    if by is not None:
        var["group"] = np.repeat(groups.names, n_genes)
        var["n_cells"] = np.repeat(groups.n_cells.astype(int), n_genes)
    var.index = var["gene"] if by is None else var["gene"] + " (" + var["group"] + ")"
    var.index.name = None
    return AnnData(
        np.hstack(means),
        obs=_donors(model, position),
        var=var,
        layers={"precision": np.hstack(precisions)},
    )


def _donors(model: SCMEDAL_RE, factor: int) -> pd.DataFrame:
    names = list(model.factors.values())[factor]
    of_factor = model.module.gene_effects.factors[factor]
    obs = pd.DataFrame(index=[str(name) for name in names])
    obs["n_cells"] = of_factor.sizes.sum(1).cpu().numpy().astype(int)
    obs["is_new"] = np.arange(len(obs)) >= of_factor.n_fitted
    return obs
