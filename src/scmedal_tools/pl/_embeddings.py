"""UMAPs of several embeddings side by side, coloured by several columns of ``obs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy.spatial import KDTree

from scmedal_tools._data import check_cells, slots
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.ext import DISPLAY_NAMES
from scmedal_tools.tl import umap, umap_key

from ._common import checked_names, is_umap, new_figure, plain, save_figure
from ._name_points import name_points
from ._palette import categories_of, is_categorical, palette

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

TITLES = {f"X_{method}": name for method, name in DISPLAY_NAMES.items()}
TITLES |= {"X_umap": "UMAP", "X_pca_harmony": "Harmony"}
TITLES |= {"X_scVI": "scVI", "X_scANVI": "scANVI"}
TITLES |= {
    slots.FE_LATENT: "scMEDAL FE",
    slots.FEC_LATENT: "scMEDAL FEC",
    slots.RE_LATENT: "scMEDAL RE",
}
MISSING_COLOR = "lightgrey"
PANEL_INCHES = 2.6
LEGEND_ROWS = 15  # As many entries as fit beside a panel.
MAX_BY_COLOR = 10  # More colours are hard to distinguish.
N_NEAR = 15
NUMBER_STYLE: dict[str, Any] = {"textsize": 7, "fontweight": "bold", "linecolor": "black"}
NUMBER_STYLE |= {"path_effects": [withStroke(linewidth=1.8, foreground="white")]}
NUMBER_STYLE |= {"min_distance": 0.0, "max_distance": 0.15, "margin": 0.002}
# Every number is to have a place, rather than no line across one.
NUMBER_STYLE |= {"nbr_candidates": 1000, "avoid_label_lines_overlap": False}
LEGEND_STYLE: dict[str, Any] = {
    "loc": "center left",
    "bbox_to_anchor": (1.0, 0.5),
    "alignment": "left",
}
LEGEND_STYLE |= {"frameon": False, "fontsize": 8, "title_fontsize": 9, "labelspacing": 0.3}
LEGEND_STYLE |= {"handletextpad": 0.1, "columnspacing": 0.8}


@with_shared_parts
def embeddings(
    adata: AnnData,
    keys: str | Sequence[str],
    color: str | Sequence[str],
    *,
    save: str | Path | None = None,
    point_size: float | None = None,
    max_legend: int = 42,
) -> Figure:
    """Draw the UMAP of each embedding (columns), coloured by each column of ``obs`` (rows).

    The cells are drawn in a random but fixed order, so that no category hides another because
    it comes later. Cells without a value are light grey and lie below the others. Of more than
    ten categories the legend gives numbers, which stand on their cells: in each panel on those
    categories that lie together, whose cells mostly have neighbours of the same category.

    Parameters
    ----------
    adata
        Annotated data of ``n_obs`` cells. Modified: the UMAP of each embedding is written to
        ``obsm["X_umap_<name>"]`` of shape ``(n_obs, 2)`` unless it is there already (see
        :func:`scmedal_tools.tl.umap`), and the colours of a categorical column to
        ``uns["<column>_colors"]`` unless it has one for each category. The first column of two or
        three categories to be drawn, such as the condition, gets colours that no other column
        gets, in the order of its categories: put the reference first. Up to seven categories get
        the colours of Okabe and Ito, which do not depend on colour vision, more get scanpy's,
        which above 99 repeat; where these are like the colours of another column, as in a second
        column of two or three categories, others that are not.
    keys
        Names of embeddings in ``adata.obsm``. ``X_umap`` and ``X_umap_<name>`` are drawn as such.
    color
        Columns of ``adata.obs``. Numbers get a colour bar, everything else a legend of the
        categories that have cells.
    %(save)s
    point_size
        Area of a point in square points; by default smaller the more cells there are.
    max_legend
        Above this number of categories the legend says only how many they are.

    %(figure)s

    Raises
    ------
    KeyError
        If one of `keys` is not in ``adata.obsm``, or one of `color` not in ``adata.obs``.
    ValueError
        If `keys` or `color` is empty, or an embedding allows no UMAP.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> pca = smt.ext.pca(adata, batch_key="donor", n_latent=10)
    >>> key = smt.tl.embed(adata, model)
    >>> figure = smt.pl.embeddings(adata, [pca, key], ["donor", "cell_type"])
    >>> [ax.get_title() for ax in figure.axes]
    ['PCA', 'scMEDAL RE', '', '']
    """
    check_cells(adata)
    keys = checked_names(keys, "keys", "adata.obsm", adata.obsm.keys())
    color = checked_names(color, "color", "adata.obs", adata.obs.columns)
    planes = [_plane(adata, key) for key in keys]
    order = np.random.default_rng(0).permutation(adata.n_obs)
    size = np.clip(15_000 / adata.n_obs, 0.5, 20) if point_size is None else point_size

    figure = new_figure((PANEL_INCHES * len(keys), PANEL_INCHES * len(color)))
    axes = figure.subplots(len(color), len(keys), squeeze=False)
    numbered = []
    for row, column in zip(axes, color, strict=True):
        colors, numbers = _draw_key(row[-1], adata, column, max_legend)
        has_value = adata.obs[column].notna().to_numpy()
        missing_first = order[np.argsort(has_value[order], kind="stable")]
        for ax, plane in zip(row, planes, strict=True):
            _scatter(ax, plane[missing_first], colors[missing_first], size)
            numbered += [] if numbers is None else [(ax, plane, numbers)]
    _label(axes, keys)
    _widen_for_legends(figure, axes[:, -1])
    for ax, plane, numbers in numbered:
        _number(ax, plane, numbers)
    save_figure(figure, save)
    return figure


def _plane(adata: AnnData, key: str) -> NDArray[np.floating]:
    """Return the two-dimensional coordinates of an embedding."""
    if not is_umap(key):
        umap(adata, key)
        key = umap_key(key)
    return np.asarray(adata.obsm[key])[:, :2]


def _draw_key(
    ax: Axes, adata: AnnData, column: str, max_legend: int
) -> tuple[NDArray[np.floating], NDArray[np.integer] | None]:
    """Draw colour bar or legend; return the colours of the cells, and their numbers if any."""
    if is_categorical(adata.obs[column]):
        return _draw_legend(ax, adata, column, max_legend)
    return _draw_color_bar(ax, adata.obs[column]), None


def _draw_color_bar(ax: Axes, values: pd.Series) -> NDArray[np.floating]:
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    scale = ScalarMappable(Normalize(np.nanmin(numbers), np.nanmax(numbers)), "viridis")
    scale.cmap = scale.cmap.with_extremes(bad=MISSING_COLOR)
    bar = ax.figure.colorbar(scale, cax=ax.inset_axes((1.05, 0.1, 0.05, 0.8)))
    bar.ax.tick_params(labelsize=7)
    bar.set_label(plain(values.name), fontsize=9)
    return scale.to_rgba(numbers)


def _draw_legend(
    ax: Axes, adata: AnnData, column: str, limit: int
) -> tuple[NDArray[np.floating], NDArray[np.integer] | None]:
    cells = categories_of(adata.obs[column])
    colors = list(palette(adata, column).values())
    used = np.unique(cells.codes[cells.codes >= 0])
    # Code -1, no value, picks the last colour.
    of_cells = to_rgba_array([*colors, MISSING_COLOR])[cells.codes]
    entries, numbers = {}, None
    if len(used) > limit:
        column = f"{column}\n({len(used)} categories)"
    elif len(used) > MAX_BY_COLOR:
        of_used = enumerate(used, start=1)
        entries = {f"{i}  {plain(cells.categories[code])}": colors[code] for i, code in of_used}
        numbers = np.where(cells.codes < 0, 0, np.searchsorted(used, cells.codes) + 1)
    else:
        entries = {plain(cells.categories[code]): colors[code] for code in used}
    if (cells.codes < 0).any():
        entries["missing"] = MISSING_COLOR
    dots = [Line2D([], [], ls="", marker="o", ms=5, c=c, label=x) for x, c in entries.items()]
    ax.legend(
        handles=dots, title=plain(column), ncols=1 + len(entries) // LEGEND_ROWS, **LEGEND_STYLE
    )
    return of_cells, numbers


def _scatter(ax: Axes, plane: NDArray, colors: NDArray, size: float) -> None:
    # Rasterised: a vector file of many thousand points is slow to open.
    ax.scatter(plane[:, 0], plane[:, 1], c=colors, s=size, linewidths=0, rasterized=True)
    ax.set(xticks=[], yticks=[], box_aspect=1)
    ax.spines[["top", "right"]].set_visible(False)


def _number(ax: Axes, plane: NDArray, numbers: NDArray[np.integer]) -> None:
    """Write the numbers of cells that lie together near their middle; 0 is none."""
    _, near = KDTree(plane).query(plane, k=min(N_NEAR, len(plane)))
    among_own = (numbers[near] == numbers[:, None]).mean(1) > 0.5
    places = {}
    for number in range(1, numbers.max() + 1):
        inside = plane[among_own & (numbers == number)]
        if len(inside) > 0.5 * (numbers == number).sum():
            # Of several groups of cells the middle can lie in none.
            from_middle = np.square(inside - np.median(inside, axis=0)).sum(1)
            places[str(number)] = inside[from_middle.argmin()]
    name_points(ax, np.array(list(places.values())), list(places), **NUMBER_STYLE)


def _label(axes: NDArray, keys: list[str]) -> None:
    for ax, key in zip(axes[0], keys, strict=True):
        ax.set_title(TITLES.get(key, plain(key.removeprefix("X_"))), fontsize=10)
    for ax in axes[:, 0]:
        ax.set_xlabel("UMAP1", fontsize=7, loc="left")
        ax.set_ylabel("UMAP2", fontsize=7, loc="bottom")


def _widen_for_legends(figure: Figure, last_column: NDArray) -> None:
    """Add the width of the widest legend, for the panels to keep theirs."""
    figure.set_layout_engine("none")  # as long as there is no room for the legends
    figure.draw_without_rendering()
    beyond = [ax.get_tightbbox().x1 - ax.get_window_extent().x1 for ax in last_column]
    figure.set_figwidth(figure.get_figwidth() + max(beyond) / figure.dpi + 0.1)
    figure.set_layout_engine("constrained")
    figure.draw_without_rendering()  # this layout gets nearer to its aim each time
