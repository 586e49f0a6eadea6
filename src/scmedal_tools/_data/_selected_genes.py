"""Counts of cells over all genes, where only some of the genes are left."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from . import slots
from ._check_cells import expression_of
from ._expression_kinds import expression_kind
from ._expression_messages import COUNTS, NORMALISED

if TYPE_CHECKING:
    from anndata import AnnData

# Share of a cell's counts from which on the genes that are left count as all: filters of rare
# genes leave more, and selections of variable genes less.
NEARLY_ALL = 0.95
N_CELLS = 1_000
OURS = str(Path(__file__).parents[1])  # the warning is shown at the line of the caller


def warn_of_selected_genes(
    adata: AnnData, layer: str | None, if_totals: str, if_counts: str, if_logarithms: str
) -> bool:
    """Warn where genes were selected before, so that sums over them are no depth of a cell.

    Parameters
    ----------
    adata
        Cells, whose counts are compared with the totals that an earlier preprocessing has kept,
        or else with those of ``adata.raw``.
    layer
        Layer with the counts.
    if_totals, if_counts, if_logarithms
        What to do if those totals are there, or if ``adata.raw`` has the counts of all genes, or
        their logarithms.

    Returns
    -------
    bool
        Whether genes were selected, or the counts changed.
    """
    cells = np.unique(np.linspace(0, adata.n_obs - 1, N_CELLS).astype(int))
    kept = adata.obs.get(slots.TOTAL_COUNTS)
    if kept is not None and pd.api.types.is_numeric_dtype(kept):
        of_all = kept.iloc[cells].to_numpy(dtype=float, na_value=np.nan)
        of_these = expression_of(adata, layer)[cells].sum(axis=1, dtype=np.float64)
        origin, advice = f"adata.obs[{slots.TOTAL_COUNTS!r}]", if_totals
    else:
        found = _sums_of_raw(adata, cells)
        if found is None:
            return False
        of_these, of_all, kind = found
        origin = f"the {adata.raw.n_vars:,} genes of adata.raw"
        advice = if_counts if kind in COUNTS else if_logarithms
    of_these, known = np.asarray(of_these).ravel(), np.isfinite(of_all) & (of_all > 0)
    # None of the counts: the genes have other names there.
    if not known.any() or not of_these[known].any():
        return False
    # Some of the cells may have been changed.
    least, largest = np.quantile(of_these[known] / of_all[known], (0.1, 0.9))
    if least >= NEARLY_ALL and largest <= 1 / NEARLY_ALL:
        return False
    share = of_these[known].sum() / of_all[known].sum()
    warnings.warn(
        f"The {adata.n_vars:,} genes of adata have {share:.0%} of the counts in {origin}: genes "
        "were selected, so that their sum is not the depth of a cell, or the counts were changed. "
        f"{advice}",
        UserWarning,
        skip_file_prefixes=(OURS,),
    )
    return True


def _sums_of_raw(adata: AnnData, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Counts of cells in ``adata.raw``, over the genes of ``adata`` and over all, and their kind.

    Nothing if there are no further genes, or values of another kind.
    """
    raw = adata.raw
    if raw is None or raw.n_vars <= adata.n_vars:
        return None
    x = raw.X[cells]
    kind = expression_kind(x)
    if kind not in COUNTS | NORMALISED:
        return None
    x = x.astype(np.float64)
    if kind in NORMALISED:
        x = x.expm1() if sp.issparse(x) else np.expm1(x)
    kept = np.flatnonzero(raw.var_names.isin(adata.var_names))
    of_these, of_all = (np.asarray(part.sum(axis=1)).ravel() for part in (x[:, kept], x))
    return of_these, of_all, kind
