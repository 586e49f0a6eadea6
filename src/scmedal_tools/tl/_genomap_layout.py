"""Genomaps: a pixel for each gene, such that correlated genes are near each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from sklearn.decomposition import KernelPCA

from scmedal_tools._data import (
    check_argument,
    check_in_memory,
    check_names,
    dense,
    expression_of,
    slots,
    whole,
)

from ._genomap_reference_pixels import genomap_reference_pixels
from ._gromov_wasserstein import OFFSET, assign, import_ot, kl_loss, stress, transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ._gromov_wasserstein import Floats, Places

Layout = Literal["grid", "rings", "genomap"]
CELLS_CENTRED_AT_ONCE = 2048


def genomap_layout(
    adata: AnnData,
    shape: tuple[int, int] | None = None,
    layout: Layout = "grid",
    *,
    layer: str | None = None,
    indices: Sequence[int] | None = None,
    max_iter: int = 100,
    seed: int = 0,
    key_added: str = slots.GENOMAP,
    progress: bool = True,
) -> None:
    """Give each gene a pixel of its own, near those of the genes that it is correlated with.

    Genes have the dissimilarity 1 - Pearson correlation over the cells, and the layout is a
    Gromov-Wasserstein assignment of genes to pixels (Islam and Xing 2023; scMEDAL, section 4.4).
    It is fitted once: with it :func:`genomap_images` and :func:`scmedal_tools.pl.genomap_panel`
    draw any cells with these genes. Needs the extra ``genomap`` (POT).

    Parameters
    ----------
    adata
        Cells to learn the correlations from, ``n_cells x n_genes``: the result of
        :func:`projection_stack`, or log-normalised cells.
    shape
        Rows and columns; ``None`` for the smallest nearly square grid that holds all genes.
        Spare pixels are the outermost.
    layout
        ``"grid"``: distances of pixels are those in the plane; starts from the first two
        principal coordinates of the genes. ``"rings"``: distances are differences of the pixels'
        radii, the published objective, whose loss is of KL type; within a ring, where the
        loss is constant, genes are in the order of their angle in the principal coordinates.
        ``"genomap"``: the original package, run as it is; extra ``genomap-reference``, for
        non-commercial use only.
    layer
        Layer with the expression; ``None`` for ``adata.X``.
    indices
        Positions of the cells to learn from, such as ``model.train_indices``; ``None`` for all.
    max_iter
        Largest number of transport problems, and of sweeps of exchanges. Of ``"genomap"`` the
        number of its iterations, all of which it usually takes.
    seed
        Seed of the principal coordinates.
    key_added
        Name in ``adata.uns``.
    progress
        Show progress bars.

    Returns
    -------
    None
        Writes ``adata.uns[key_added]``, a dictionary: ``"pixels"``, a table with a row for each
        gene and the columns ``row`` and ``column``, both from 0; ``"shape"``, ``"layout"``,
        ``"distance"`` (``"1 - Pearson correlation"``), ``"n_cells"``, and ``"objective"``: of
        ``"grid"`` Kruskal's stress of the pixels' distances, else the mean KL loss of the
        differences of radii; low is good.

    Raises
    ------
    ImportError
        If POT is missing, or the original package where it is asked for.
    ValueError
        If the grid has fewer pixels than there are genes, expression is not finite, gene names
        are not unique, there are fewer than 2 cells or genes, the data are backed, or the
        original package cannot take the genes.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.tl.genomap_layout(adata, progress=False)
    >>> adata.uns["genomap"]["pixels"].shape
    (60, 2)
    """
    if layout not in get_args(Layout):
        raise ValueError(f"layout={layout!r} is not one of {get_args(Layout)}.")
    check_argument("max_iter", max_iter, whole())
    import_ot()
    check_in_memory(adata)
    check_names(adata)
    x = expression_of(adata, layer)
    x = x if indices is None else x[np.asarray(indices)]
    shape = _checked_shape(shape, x.shape[1])
    dissimilarity = gene_dissimilarity(x)
    grid = np.stack(np.unravel_index(np.arange(math.prod(shape)), shape), axis=1)
    # Twice the distances to the centre, whole numbers: equal radii are equal exactly.
    centred = 2 * grid - (np.array(shape) - 1)
    # Stable: what is left out of the last ring is at its end, row by row.
    inner = np.square(centred).sum(axis=1).argsort(kind="stable")[: x.shape[1]]
    inner.sort()
    options = {"max_iter": max_iter, "progress": progress}
    if layout == "genomap":
        pixels = genomap_reference_pixels(x, shape, max_iter)
        inner = np.arange(math.prod(shape))
    else:
        coordinates = _principal_coordinates(dissimilarity, seed)
        place = _on_grid if layout == "grid" else _on_rings
        pixels = inner[place(dissimilarity, coordinates, centred[inner], **options)]
    measure = _grid_objective if layout == "grid" else _rings_objective
    adata.uns[key_added] = {
        "pixels": pd.DataFrame(grid[pixels], adata.var_names.copy(), ["row", "column"]),
        "shape": np.array(shape),
        "layout": layout,
        "distance": "1 - Pearson correlation",
        "n_cells": x.shape[0],
        "objective": measure(dissimilarity, centred[pixels] / 2),
    }


def gene_dissimilarity(x: Any) -> Floats:
    """1 - Pearson correlation of the columns; that of a constant one with any other is 1."""
    n_cells, n_genes = x.shape
    if min(n_cells, n_genes) < 2:
        raise ValueError(f"{n_cells} cells and {n_genes} genes have no correlations.")
    mean = np.asarray(x.mean(axis=0), dtype=np.float64).ravel()
    products, largest = np.zeros((n_genes, n_genes)), np.zeros(n_genes)
    for start in range(0, n_cells, CELLS_CENTRED_AT_ONCE):
        block = dense(x[start : start + CELLS_CENTRED_AT_ONCE]) - mean
        largest = np.maximum(largest, np.abs(block).max(axis=0))
        products += block.T @ block
    if not np.isfinite(products).all():
        raise ValueError("The expression has missing or infinite values: drop these cells.")
    # A mean is rounded: what is left of a constant gene must not count as variation.
    varies = largest > 1e-6 * np.maximum(np.abs(mean), np.finfo(np.float32).tiny)
    norm = np.sqrt(products.diagonal())
    scale = np.divide(1, norm, out=np.zeros(n_genes), where=varies)
    dissimilarity = np.clip(1 - products * scale[:, None] * scale, 0, 2)
    np.fill_diagonal(dissimilarity, 0)
    return dissimilarity


def _checked_shape(shape: tuple[int, int] | None, n_genes: int) -> tuple[int, int]:
    if shape is None:
        n_columns = math.ceil(math.sqrt(n_genes))
        return math.ceil(n_genes / n_columns), n_columns
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape={shape!r} has to be a number of rows and one of columns.")
    if math.prod(shape) < n_genes:
        raise ValueError(
            f"shape={tuple(shape)} has {math.prod(shape):,} pixels for {n_genes:,} genes: pass a "
            "larger one, or None for one that fits."
        )
    return int(shape[0]), int(shape[1])


def _principal_coordinates(dissimilarity: Floats, seed: int) -> Floats:
    """First two of classical scaling: 1 - correlation is half a squared Euclidean distance."""
    scaling = KernelPCA(2, kernel="precomputed", random_state=seed)
    return scaling.fit_transform(1 - dissimilarity)


def _on_grid(dissimilarity: Floats, coordinates: Floats, pixels: Places, **options: Any) -> Places:
    """Pixel of each gene by distances in the plane."""
    # In each direction the genes take the pixels' positions in the order of their coordinates.
    ranks = coordinates.argsort(axis=0).argsort(axis=0)
    spread = np.take_along_axis(np.sort(pixels, axis=0), ranks, axis=0)
    one = np.ones(len(pixels), dtype=int)
    start = transport(-np.square(_differences(spread, pixels)).sum(axis=-1), one)
    distance = np.hypot(*np.moveaxis(_differences(pixels, pixels), -1, 0))
    return assign(dissimilarity, distance, one, start=start, **options)


def _on_rings(
    dissimilarity: Floats, coordinates: Floats, pixels: Places, **options: Any
) -> Places:
    """Pixel of each gene by differences of radii."""
    radii, ring_of_pixel, capacity = np.unique(
        np.hypot(*pixels.T), return_inverse=True, return_counts=True
    )
    weight = np.log(np.abs(radii[:, None] - radii) / 2 + OFFSET)
    ring_of_gene = assign(dissimilarity, weight, capacity, **options)
    by_angle = [np.arctan2(*points.T) for points in (coordinates, pixels)]
    genes, places = (
        np.lexsort((angle, ring))
        for angle, ring in zip(by_angle, (ring_of_gene, ring_of_pixel), strict=True)
    )
    result = np.empty(len(genes), dtype=int)
    result[genes] = places
    return result


def _differences(a: Floats | Places, b: Floats | Places) -> Floats:
    return np.subtract(a[:, None, :], b[None, :, :], dtype=np.float64)


def _grid_objective(dissimilarity: Floats, positions: Floats) -> float:
    return stress(dissimilarity, np.hypot(*np.moveaxis(_differences(positions, positions), -1, 0)))


def _rings_objective(dissimilarity: Floats, positions: Floats) -> float:
    radii = np.hypot(*positions.T)
    return kl_loss(dissimilarity, np.abs(radii[:, None] - radii))
