"""UMAP of one embedding, drawn by scanpy in the colours of the other figures."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
from anndata import AnnData

from scmedal_tools._data import check_anndata
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.tl import umap as compute_umap
from scmedal_tools.tl import umap_key

from ._common import checked_names, figure_of, is_umap, plain, save_figure
from ._palette import categories_of, is_categorical, palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@with_shared_parts
def umap(
    adata: AnnData,
    key: str,
    color: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
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
        :func:`embeddings`, or with ``palette`` those of the palette. Of a view, the expression is
        copied.
    key
        Name of an embedding in ``adata.obsm``. ``X_umap`` and ``X_umap_<name>`` are drawn as such.
    color
        Columns of ``adata.obs``, or names of genes; without any, all cells are grey.
    ax
        Axes to draw a single panel on.
    %(save)s
    **kwargs
        Further arguments of :func:`scanpy.pl.embedding`, such as ``layer``, ``mask_obs``,
        ``palette``, ``vmax`` or ``legend_loc="on data"``; not ``show`` and ``return_fig``.

    Returns
    -------
    matplotlib.figure.Figure
        Without `ax`, it shows itself as the last expression of a notebook cell, and is unknown to
        ``plt.show``. With `ax`, it is the figure of these.

    Raises
    ------
    KeyError
        If `key` is not in ``adata.obsm``, or one of `color` neither a column nor a gene.
    TypeError
        If `adata` is no AnnData, or ``show`` or ``return_fig`` is given.
    ValueError
        If `adata` is a MuData, the embedding allows no UMAP, or there is one `ax` for several
        panels.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> key = smt.tl.embed(adata, model)
    >>> gene = adata.var_names[0]
    >>> figure = smt.pl.umap(adata, key, ["cell_type", gene])
    >>> [ax.get_title() for ax in figure.axes[:2]] == ["cell_type", gene]
    True
    """
    check_anndata(adata)
    if refused := sorted({"return_fig", "show"} & kwargs.keys()):
        raise TypeError(
            f"pl.umap takes no {' and '.join(refused)}, as it always returns its figure: leave "
            "that out. A script shows it by plt.show() if it is drawn on an ax of yours."
        )
    names = [color] if isinstance(color, str) else list(color or ())
    if "gene_symbols" not in kwargs:
        _check_color(adata, names)
    if not is_umap(key):
        compute_umap(adata, key)
        key = umap_key(key)
    checked_names(key, "key", "adata.obsm", adata.obsm)
    columns = [name for name in names if name in adata.obs and is_categorical(adata.obs[name])]
    has_own_palette = kwargs.get("palette") is not None
    if not has_own_palette:
        for name in columns:
            palette(adata, name)
    shown = _shown(adata, columns)
    options: dict[str, Any] = {"frameon": False, "show": False, "ax": ax}
    options |= {"color": names, "title": list(map(plain, names))} if names else {}
    panels = np.ravel(sc.pl.embedding(shown, key, **options | kwargs))
    for panel in panels:
        _write_plainly(panel)
    if has_own_palette:
        adata.uns.update({f"{name}_colors": shown.uns[f"{name}_colors"] for name in columns})
    figure = figure_of(panels[0])
    if ax is None:
        plt.close(figure)  # for notebooks, which show it as the value of a cell, to show it once
    save_figure(figure, save)
    return figure


def _check_color(adata: AnnData, names: list[str]) -> None:
    """Refuse what is neither a column nor a gene."""
    genes = adata.var_names if adata.raw is None else adata.raw.var_names.union(adata.var_names)
    if unknown := [name for name in names if name is not None and name not in genes]:
        checked_names(unknown, "color", "adata.obs and no gene", adata.obs)


def _shown(adata: AnnData, columns: list[str]) -> AnnData:
    """Return what scanpy may change: it makes categories of all text.

    Large parts are shared, unless `adata` is a view, whose parts are copies.
    """
    obs = adata.obs.assign(**{name: _with_text(adata.obs[name]) for name in columns})
    layers = {name: x for name, x in adata.layers.items() if name is not None}  # not X
    parts = {"uns": dict(adata.uns), "obsm": dict(adata.obsm), "layers": layers}
    with warnings.catch_warnings():  # adata had its own warning when it was made
        warnings.filterwarnings("ignore", ".* names are not unique")
        return AnnData(adata.X, obs, adata.var, raw=adata.raw, obsp=dict(adata.obsp), **parts)


def _with_text(column: pd.Series) -> pd.Categorical:
    """Return the categories in the order of their colours; scanpy calls truth values by text."""
    cells = categories_of(column)
    return cells.rename_categories(str) if cells.categories.dtype == bool else cells


def _write_plainly(ax: Axes) -> None:
    """Write names letter by letter that scanpy has to find as they are in the data."""
    legend = ax.get_legend()
    of_categories = [*ax.texts, *(legend.get_texts() if legend else ())]
    for text in [*of_categories, ax.xaxis.label, ax.yaxis.label]:
        text.set_text(plain(text.get_text()))
