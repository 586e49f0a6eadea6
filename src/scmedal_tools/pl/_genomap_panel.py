"""Genomaps of cells as measured, without batch effects, and in each batch."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from scmedal_tools._data import check_cells, slots
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.tl import genomap_images, layout_of

from ._common import checked_names, folded, new_figure, plain, save_figure, widest
from ._palette import PURPLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CMAP = "RdBu_r"  # distinguishable with every common colour vision deficiency
OWN_FRAME: dict[str, Any] = {"edgecolor": "#C00000", "linewidth": 2.5, "linestyle": "-"}
SIMILAR_FRAME: dict[str, Any] = {"edgecolor": PURPLE, "linewidth": 2.5, "linestyle": "--"}
CIRCLE: dict[str, Any] = {"marker": "o", "ms": 4, "mfc": "none", "mec": "black", "mew": 0.6}
HALO = [withStroke(linewidth=1.6, foreground="white")]  # dark pixels lie under it
LEADER: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 2}
LEADER |= {"relpos": (0, 0.5)}  # from the left end of a name, across no other
LEADER |= {"path_effects": HALO}
MAP_INCHES = 1.25
LINE_INCHES = 0.13
TITLE_SIZE, NAME_SIZE = 8, 7  # points
QUANTILE = 0.99


@with_shared_parts
def genomap_panel(
    stack: AnnData,
    cells: int | Sequence[str] = 4,
    batches: Sequence[str] | None = None,
    *,
    similar: float | None = None,
    differences: bool = True,
    n_genes: int = 3,
    vmax: float | None = None,
    key: str = slots.GENOMAP,
    save: str | Path | None = None,
) -> Figure:
    """Draw cells as genomaps: as measured, corrected by FE or FEC, and as RE predicts each batch.

    The figure of the paper (scMEDAL, Figures 5 to 7). All maps have one layout and one colour
    scale. Compare the counterfactuals with RE's reconstruction in the own batch, framed in red,
    not with the measured cell, whose noise no reconstruction has.

    Parameters
    ----------
    stack
        Result of :func:`scmedal_tools.tl.projection_stack`, with the layout of
        :func:`scmedal_tools.tl.genomap_layout`.
    cells
        Number of cells, the first of each of the batches that are drawn in turn; or their names.
    batches
        Batches to draw, in this order; ``None`` for all. Of cells that are named, the own batch
        is drawn in any case, after these.
    similar
        Correlation with RE's reconstruction in the own batch from which on a counterfactual is
        framed in dashed purple, for example 0.95; ``None`` for no such frames.
    differences
        Draw below each cell what the counterfactuals add to RE's reconstruction in the own batch,
        with a colour scale of its own.
    n_genes
        Number of genes to name for each cell: those in which the counterfactuals that are drawn
        are farthest from RE's reconstruction in the own batch. They are circled; on the right a
        line leads from each to its name, the signed difference in standard deviations and its
        batch. 0 for none.
    vmax
        Value, in standard deviations, at which the colours end; ``None`` for the 99th percentile
        of the absolute values that are drawn.
    key
        Name of the layout in ``stack.uns``.
    %(save)s

    Returns
    -------
    matplotlib.figure.Figure
        A row for each cell, two with `differences`. Pixels without a gene are blank. It shows
        itself as the last expression of a notebook cell, and is unknown to ``plt.show``.

    Raises
    ------
    KeyError
        If there is no layout, or cells or batches are not in the stack.
    ValueError
        If this is no projection stack, or there is nothing to draw, also because no cell is of
        the batches.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> stack = smt.tl.projection_stack(adata, fe, model, 3, batches=["donor_01", "donor_02"])
    >>> smt.tl.genomap_layout(stack, progress=False)
    >>> figure = smt.pl.genomap_panel(stack)
    """
    check_cells(stack)
    fixed = _fixed_effects(stack.obs)
    layout_of(stack, key)
    rows = pd.Series(
        np.arange(stack.n_obs),
        pd.MultiIndex.from_arrays(
            [
                stack.obs["cell"].astype(str),
                stack.obs["projection"].astype(str),
                stack.obs["target"].astype(object).where(stack.obs["target"].notna(), ""),
            ]
        ),
    )
    about = stack.obs[(stack.obs["projection"] == "original").to_numpy()].set_index("cell")
    known = [str(name) for name in stack.obs["target"].cat.categories]
    if batches is None:
        batches = known
    else:  # the stack has them as text
        named = batches if isinstance(batches, str) else list(map(str, batches))
        batches = checked_names(named, "batches", "the stack", known)
    cells, batches = _chosen(about, cells, batches)
    columns = [("original", ""), (fixed, ""), *(("RE", name) for name in batches)]
    images = genomap_images(stack, key=key)
    maps = np.stack([images[[rows[cell, *column] for column in columns]] for cell in cells])
    own = images[[rows[cell, "RE", str(about.loc[cell, "batch"])] for cell in cells]]
    shifts = maps[:, 2:] - own[:, None]

    strongest = [_strongest(of_cell, n_genes) for of_cell in shifts] if n_genes > 0 else []
    names = [
        _names(genes, stack.uns[key]["pixels"], of_cell, batches)
        for genes, of_cell in zip(strongest, shifts, strict=False)
    ]
    titles = [_fitted(x) for x in ("original", fixed, *(f"RE: {name}" for name in batches))]
    about_cells = about.loc[cells, [c for c in ("cell_type", "batch") if c in about]].astype(str)
    labels = ["\n".join(map(_fitted, row)) for row in about_cells.to_numpy()]

    figure, axes = _axes(titles, labels, differences, names)
    norms = [_symmetric(maps, vmax), *([_symmetric(shifts, None)] if differences else [])]
    has_similar = False
    for i, batch in enumerate(about_cells["batch"]):
        of_cell = axes[i * (1 + differences) : (i + 1) * (1 + differences)]
        _draw(of_cell[0], maps[i], norms[0])
        of_cell[0, 0].set_ylabel(plain(labels[i]), fontsize=TITLE_SIZE)
        if differences:
            _draw(of_cell[1, 2:], shifts[i], norms[1])
            of_cell[1, 2].set_ylabel("minus own", fontsize=7)
        for ax, target, image in zip(of_cell[0, 2:], batches, maps[i, 2:], strict=False):
            if target == batch:
                _frame(ax, OWN_FRAME)
            elif similar is not None and _correlation(image, own[i]) >= similar:
                _frame(ax, SIMILAR_FRAME)
                has_similar = True
        if names:
            for ax in of_cell[:, 2:].flat:
                _circle(ax, strongest[i])
            _lead(of_cell[-1, -1], strongest[i], names[i])
    for ax, title in zip(axes[0], titles, strict=False):
        ax.set_title(plain(title), fontsize=TITLE_SIZE)
    _explain(figure, axes, norms, similar if has_similar else None, bool(names))
    save_figure(figure, save)
    return figure


def _fixed_effects(obs: pd.DataFrame) -> str:
    """Return which projection by fixed effects a stack has, FE or FEC; refuse what is no stack."""
    if missing := {"cell", "projection", "target", "batch"} - set(obs):
        raise ValueError(f"stack.obs has no {sorted(missing)}: pass tl.projection_stack's result.")
    others = {"original", "RE"}
    fixed = set(obs["projection"]) - others
    if len(fixed) != 1 or not others < set(obs["projection"]):
        raise ValueError(
            f"stack.obs['projection'] has {sorted(set(obs['projection']))}, and 'original', 'FE' "
            "or 'FEC', and 'RE' are needed: pass the whole result of tl.projection_stack."
        )
    return fixed.pop()


def _chosen(
    about: pd.DataFrame, cells: int | Sequence[str], batches: list[str]
) -> tuple[list[str], list[str]]:
    """Cells to draw, and batches among which is the own one of each of them."""
    own = about["batch"].astype(str)
    if not isinstance(cells, int | np.integer):
        cells = checked_names(cells, "cells", "the stack", about.index)
        return cells, list(dict.fromkeys([*batches, *own[cells]]))
    if cells < 1:
        raise ValueError(f"cells={cells} leaves nothing to draw: pass 1 or more.")
    own = own[own.isin(batches)]
    if own.empty:
        raise ValueError(f"No cell of the stack is of {batches}: draw other batches too.")
    turn = own.groupby(own).cumcount().to_numpy()
    return list(own.index[np.argsort(turn, kind="stable")[:cells]]), batches


def _fitted(name: str) -> str:
    return folded(name, MAP_INCHES, TITLE_SIZE)


def _axes(
    titles: list[str], labels: list[str], differences: bool, names: list[list[str]]
) -> tuple[Figure, np.ndarray]:
    """Axes of the maps, in a figure that has room for all text."""
    n_rows = len(labels) * (1 + differences)
    right = widest(chain(*names), NAME_SIZE) + 0.3 if names else 0.0
    left, top = (LINE_INCHES * max(x.count("\n") for x in lines) for lines in (labels, titles))
    width = MAP_INCHES * len(titles) + left + right + 0.4
    figure = new_figure((width, MAP_INCHES * n_rows + top + 0.9 + 0.3 * differences))
    axes = figure.subplots(n_rows, len(titles), squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure, axes


def _symmetric(values: np.ndarray, vmax: float | None) -> Normalize:
    if vmax is None:
        vmax = float(np.nanquantile(np.abs(values), QUANTILE)) or 1.0
    return Normalize(-vmax, vmax)


def _draw(axes: np.ndarray, images: np.ndarray, norm: Normalize) -> None:
    cmap = mpl.colormaps[CMAP].with_extremes(bad="none")
    for ax, image in zip(axes, images, strict=False):
        ax.imshow(image, cmap=cmap, norm=norm)


def _frame(ax: Axes, style: dict) -> None:
    ax.spines[:].set(visible=True, **style)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    drawn = np.isfinite(a)
    return float(np.corrcoef(a[drawn], b[drawn])[0, 1])


def _strongest(shifts: np.ndarray, n_genes: int) -> list[tuple[int, int]]:
    """Pixels with the largest absolute difference in any of the batches, from top to bottom."""
    largest = np.nan_to_num(np.abs(shifts).max(axis=0), nan=-1)
    order = np.argsort(-largest, axis=None, kind="stable")[: min(n_genes, (largest >= 0).sum())]
    return list(zip(*np.unravel_index(np.sort(order), largest.shape), strict=True))


def _names(
    strongest: list[tuple[int, int]], pixels: pd.DataFrame, shifts: np.ndarray, batches: list[str]
) -> list[str]:
    genes = pd.Series(pixels.index, pd.MultiIndex.from_frame(pixels[["row", "column"]]))
    lines = []
    for row, column in strongest:
        values = shifts[:, row, column]
        at = np.abs(values).argmax()
        lines.append(f"{genes[row, column]} {values[at]:+.1f} s.d. ({batches[at]})")
    return lines


def _circle(ax: Axes, strongest: list[tuple[int, int]]) -> None:
    rows, columns = np.array(strongest).T
    ax.plot(columns, rows, ls="", clip_on=False, path_effects=HALO, **CIRCLE)


def _lead(ax: Axes, strongest: list[tuple[int, int]], names: list[str]) -> None:
    """Lines from the genes to their names beside the map, which are as short as can be."""
    of_axes = ax.transData + ax.transAxes.inverted()
    genes = of_axes.transform([(column, row) for row, column in strongest])
    places = [(1.12, 1 - (i + 0.5) / len(names)) for i in range(len(names))]
    # No two lines of the smallest total length cross.
    _, chosen = linear_sum_assignment(cdist(genes, places))
    for name, (row, column), place in zip(names, strongest, chosen, strict=True):
        ax.annotate(
            plain(name), (column, row), places[place],
            textcoords="axes fraction", va="center", fontsize=NAME_SIZE, arrowprops=LEADER,
            annotation_clip=False,
        )  # fmt: skip


def _explain(
    figure: Figure,
    axes: np.ndarray,
    norms: list[Normalize],
    similar: float | None,
    named: bool,
) -> None:
    labels = ["expression, standard deviations from the gene's mean"]
    labels += ["difference to own batch, standard deviations"]
    for norm, label in reversed(list(zip(norms, labels, strict=False))):
        colours = mpl.cm.ScalarMappable(norm, CMAP)
        bar = figure.colorbar(
            colours, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02, extend="both",
            ticks=MaxNLocator(8, steps=[1, 2, 5, 10]),
        )  # fmt: skip
        bar.set_label(label, fontsize=7)
        bar.ax.tick_params(labelsize=6)
    entries: list[Artist] = [Patch(facecolor="none", label="own batch", **OWN_FRAME)]
    if similar is not None:
        label = f"correlation with own batch ≥ {similar:g}"
        entries.append(Patch(facecolor="none", label=label, **SIMILAR_FRAME))
    if named:
        entries.append(Line2D([], [], ls="", label="gene named on the right", **CIRCLE))
    figure.legend(handles=entries, loc="outside upper right", ncols=3, frameon=False, fontsize=7)
