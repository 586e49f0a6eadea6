"""Totals of cells that a column of ``obs`` gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import slots

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def size_factors(
    adata: AnnData,
    key: str,
    cells: NDArray[np.intp] | slice = slice(None),
    what: str = "size_factor_key",
) -> NDArray[np.float64]:
    """Give the positive numbers that a column has of some cells; ``what`` is the argument's name.

    Raises
    ------
    ValueError
        If there is no such column of numbers, or one of them is missing or not positive.
    """
    numbers = adata.obs.select_dtypes("number")
    if key not in numbers:
        numbers = slots.without_those_of_scvi(numbers)
        raise ValueError(
            f"{what}={key!r} is not a numeric column of adata.obs. "
            f"Numeric columns: {', '.join(map(repr, numbers)) or 'none'}."
        )
    sizes = adata.obs[key].iloc[cells].to_numpy(dtype=np.float64, na_value=np.nan)
    unusable = ~(np.isfinite(sizes) & (sizes > 0))
    if unusable.any():
        raise ValueError(
            f"{what}={key!r} is not a positive number in {unusable.sum():,} of "
            f"{sizes.size:,} cells. To drop them:\n"
            f"adata = adata[adata.obs[{key!r}].between(0, np.inf, inclusive='neither')].copy()"
        )
    return sizes
