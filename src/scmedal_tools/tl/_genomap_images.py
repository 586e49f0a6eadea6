"""Images of cells: expression at the pixels of a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmedal_tools._data import check_cells, expression_of, positions_of, rows_of, slots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

PIXEL = ["row", "column"]


def genomap_images(
    adata: AnnData,
    *,
    layer: str | None = None,
    key: str = slots.GENOMAP,
    layout: dict | pd.DataFrame | None = None,
) -> GenomapImages:
    """Images of cells, each computed when it is requested.

    Parameters
    ----------
    adata
        Cells, in memory or backed, with the genes of the layout; others are not drawn.
    layer
        Layer with the values; ``None`` for ``adata.X``.
    key
        Name of the layout in ``adata.uns``, see :func:`genomap_layout`.
    layout
        A layout of other cells to use instead: ``stack.uns["genomap"]``, or a table with the
        columns ``"row"`` and ``"column"`` and genes as the index; those with NaN are not drawn.

    Returns
    -------
    GenomapImages
        Indexed by position, slice, mask, or names of cells.

    Raises
    ------
    KeyError
        If there is no layout.
    ValueError
        If genes of the layout are not in `adata`, or it is no layout.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.tl.genomap_layout(adata, progress=False)
    >>> images = smt.tl.genomap_images(adata)
    >>> images[0].shape, images[:10].shape
    ((8, 8), (10, 8, 8))
    """
    pixels, shape = pixels_of(layout_of(adata, key) if layout is None else layout)
    return GenomapImages(adata, layer, pixels, shape)


def layout_of(adata: AnnData, key: str) -> dict:
    """Return a layout that is kept in ``uns``."""
    check_cells(adata)
    if key not in adata.uns:
        raise KeyError(f"adata.uns has no {key!r}. Run first:\nsmt.tl.genomap_layout(adata)")
    return adata.uns[key]


def pixels_of(layout: dict | pd.DataFrame) -> tuple[pd.DataFrame, tuple[int, int]]:
    """Row and column of the genes that have a pixel, and the shape of an image.

    A table of pixels has no shape of its own: the image ends at the last pixel.
    """
    table = layout if isinstance(layout, pd.DataFrame) else layout.get("pixels", pd.DataFrame())
    absent = [column for column in PIXEL if column not in table]
    if absent:
        raise ValueError(f"layout has no column {absent[0]!r}: it needs 'row' and 'column'.")
    pixels = table[PIXEL].dropna().astype(int)
    if pixels.empty:
        raise ValueError("layout has no pixels.")
    shape = pixels.max() + 1 if layout is table else layout["shape"]
    n_rows, n_columns = map(int, shape)
    return pixels, (n_rows, n_columns)


class GenomapImages:
    """Images of cells, ``(n_cells, n_rows, n_columns)``, each computed when it is requested.

    Made by :func:`genomap_images`. ``images[i]`` is one image, of shape
    ``(n_rows, n_columns)``; with several cells the result has shape
    ``(n, n_rows, n_columns)``. Pixels without a gene are NaN.

    Parameters
    ----------
    adata, layer
        Cells, and the layer with their expression.
    pixels
        ``row`` and ``column`` of each gene, by name.
    shape
        Rows and columns of an image.

    Raises
    ------
    ValueError
        If genes of the layout are not in `adata`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.tl.genomap_layout(adata, progress=False)
    >>> len(smt.tl.genomap_images(adata))
    240
    """

    def __init__(
        self, adata: AnnData, layer: str | None, pixels: pd.DataFrame, shape: tuple[int, int]
    ):
        self._genes = adata.var_names.get_indexer(pixels.index)
        if missing := list(pixels.index[self._genes < 0]):
            raise ValueError(
                f"{len(missing):,} genes of the layout are not in adata: "
                f"{', '.join(map(str, missing[:5]))}. Fit a layout to the genes that there are."
            )
        self._values, self._names = expression_of(adata, layer), adata.obs_names
        self._at = pixels["row"].to_numpy(), pixels["column"].to_numpy()
        self.shape = (adata.n_obs, *shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, cells: Any) -> np.ndarray:
        one = isinstance(cells, str | int | np.integer)
        positions = self._positions([cells] if one else cells)
        values = rows_of(self._values, positions)
        images = np.full((len(positions), *self.shape[1:]), np.nan, dtype=np.float32)
        images[:, *self._at] = values[:, self._genes]
        return images[0] if one else images

    def _positions(self, cells: Any) -> np.ndarray:
        if isinstance(cells, slice):
            return np.arange(len(self))[cells]
        cells = np.asarray(cells)
        if cells.dtype.kind in "OUTS":
            positions = self._names.get_indexer(cells)
            if (positions < 0).any():
                raise KeyError(f"{list(cells[positions < 0][:5])} are not cells of adata.")
            return positions
        return positions_of(cells, len(self))
