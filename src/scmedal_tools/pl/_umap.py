"""UMAP of one embedding, drawn by scanpy in the colours of the other figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import scanpy as sc
from anndata import AnnData

from scmedal_tools._data import check_cells
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.tl import umap as compute_umap
from scmedal_tools.tl import umap_key

from ._common import checked_names, is_umap, plain, save_figure
from ._palette import categories_of, is_categorical, palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure


@with_shared_parts
def umap(
    adata: AnnData,
    key: str,
    color: str | Sequence[str] | None = None,
    *,
    save: str | Path | None = None,
    **kwargs: Any,
) -> Figure:
    """Draw the UMAP of one embedding with all that scanpy's ``pl.umap`` can.

    A panel for each of `color`, which may be genes. :func:`embeddings` draws several embeddings
    side by side, and numbers many categories where they lie.

    Parameters
    ----------
    adata
        Annotated data of ``n_obs`` cells. Modified: the UMAP is written to
        ``obsm["X_umap_<name>"]`` of shape ``(n_obs, 2)`` unless it is there already (see
        :func:`scmedal_tools.tl.umap`), and colours to ``uns["<column>_colors"]`` as by
        :func:`embeddings`.
    key
        Name of an embedding in ``adata.obsm``. ``X_umap`` and ``X_umap_<name>`` are drawn as such.
    color
        Columns of ``adata.obs``, or names of genes; without any, all cells are grey.
    %(save)s
    **kwargs
        Further arguments of :func:`scanpy.pl.embedding`, such as ``layer``, ``mask_obs``,
        ``vmax`` or ``legend_loc="on data"``.

    %(figure)s

    Raises
    ------
    KeyError
        If `key` is not in ``adata.obsm``, or one of `color` neither a column nor a gene.
    ValueError
        If the embedding allows no UMAP.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> key = smt.tl.embed(adata, model)
    >>> gene = adata.var_names[0]
    >>> figure = smt.pl.umap(adata, key, ["cell_type", gene])
    >>> [ax.get_title() for ax in figure.axes[:2]] == ["cell_type", gene]
    True
    """
    check_cells(adata)
    if not is_umap(key):
        compute_umap(adata, key)
        key = umap_key(key)
    checked_names(key, "key", "adata.obsm", adata.obsm)
    names = [color] if isinstance(color, str) else list(color or ())
    shown = _shown(adata, names)
    options: dict[str, Any] = {"frameon": False, "show": False, "return_fig": True}
    options |= {"color": names, "title": list(map(plain, names))} if names else {}
    figure = sc.pl.embedding(shown, key, **options | kwargs)
    plt.close(figure)  # for notebooks, which show it as the value of a cell, to show it once
    save_figure(figure, save)
    return figure


def _shown(adata: AnnData, names: list[str]) -> AnnData:
    """Return what scanpy may change: it makes categories of all text. Large parts are shared."""
    obs = adata.obs.copy()
    for name in names:
        if name in obs and is_categorical(obs[name]):
            palette(adata, name)
            cells = categories_of(obs[name])
            obs[name] = cells.rename_categories(list(map(plain, cells.categories)))
    parts = {"uns": dict(adata.uns), "obsm": dict(adata.obsm), "layers": dict(adata.layers)}
    return AnnData(adata.X, obs, adata.var, raw=adata.raw, obsp=dict(adata.obsp), **parts)
