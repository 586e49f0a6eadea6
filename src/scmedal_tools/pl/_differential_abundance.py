"""Where a group has more cells, on a plane in which the cells lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import CenteredNorm

from scmedal_tools._data import check_cells
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.tl import SIGNIFICANT

from ._common import axes_of, checked_names, figure_of, is_umap, plain, save_figure

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

SIZE = 4.8, 4.0


@with_shared_parts
def differential_abundance(
    found: pd.DataFrame,
    adata: AnnData,
    basis: str,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the neighbourhoods in which one group of donors has more cells.

    Colours are the logarithm, to the base of 2, of the ratio of the groups' shares. Neighbourhoods
    whose adjusted p-value is at most 0.05 are large and have a black edge.

    Parameters
    ----------
    found
        Result of :func:`scmedal_tools.tl.differential_abundance`.
    adata
        The cells that it was found in.
    basis
        Name of coordinates in ``adata.obsm``, of which the first two are drawn, such as
        ``"X_umap"``.
    %(ax)s
    %(save)s

    %(axes)s

    Raises
    ------
    KeyError
        If there are no such coordinates.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> adata.obsm["X_content"] = model.get_latent_representation(kind="content")
    >>> found = smt.tl.differential_abundance(
    ...     model, group_key="condition", n_neighbors=20, n_centres=50
    ... )
    >>> ax = smt.pl.differential_abundance(found, adata, "X_content")
    >>> ax.get_title()
    '0 of 50 neighbourhoods differ'
    """
    check_cells(adata)
    checked_names(basis, "basis", "adata.obsm", adata.obsm)
    plane = np.asarray(adata.obsm[basis])[:, :2]
    centres = plane[adata.obs_names.get_indexer(found.index)]
    differs = (found["adj_p_value"] <= SIGNIFICANT).to_numpy()
    ratio = found["log2_ratio"].to_numpy()
    ax = axes_of(ax, SIZE)
    ax.scatter(plane[:, 0], plane[:, 1], s=2, c="0.88", linewidths=0, rasterized=True)
    norm = CenteredNorm(halfrange=np.abs(ratio).max() or 1.0)
    for rows, size, edge in ((~differs, 12, 0.0), (differs, 36, 0.9)):
        points = ax.scatter(
            centres[rows, 0], centres[rows, 1], s=size, c=ratio[rows], cmap="RdBu_r", norm=norm,
            edgecolors="black", linewidths=edge,
        )  # fmt: skip
    ax.set_title(f"{differs.sum()} of {len(found)} neighbourhoods differ", fontsize=9)
    ax.set(xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(False)
    name = "UMAP" if is_umap(basis) else f"{plain(basis)} "
    ax.set_xlabel(f"{name}1", fontsize=8)
    ax.set_ylabel(f"{name}2", fontsize=8)
    bar = figure_of(ax).colorbar(points, ax=ax, shrink=0.6)
    bar.set_label("log2 ratio of shares", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    save_figure(figure_of(ax), save)
    return ax
