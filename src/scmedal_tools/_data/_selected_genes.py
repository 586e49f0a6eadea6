"""Counts of cells over all genes, where only some of the genes are left."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
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


def kept_totals(adata: AnnData, layer: str | None) -> str | None:
    """Column with the totals over all genes of the counts that ``pp.preprocess`` has kept."""
    totals = slots.TOTAL_COUNTS
    is_kept = layer == slots.COUNTS_LAYER and totals in adata.obs
    return totals if is_kept and adata.obs[totals].notna().all() else None


def warn_of_selected_genes(
    adata: AnnData, layer: str | None, if_counts: str, if_logarithms: str
) -> bool:
    """Warn where genes were selected before, so that sums over them are no depth of a cell.

    Parameters
    ----------
    adata
        Cells, whose genes are compared with those of ``adata.raw``, and their counts with the
        totals that an earlier preprocessing has kept.
    layer
        Layer with the counts.
    if_counts, if_logarithms
        What to do if ``adata.raw`` has the counts of all genes, or their logarithms.

    Returns
    -------
    bool
        Whether genes were selected.
    """
    cells, raw = slice(N_CELLS), adata.raw
    if slots.TOTAL_COUNTS in adata.obs:
        counts = expression_of(adata, layer)[cells].sum(dtype=np.float64)
        share = counts / adata.obs[slots.TOTAL_COUNTS].iloc[cells].sum()
        origin = f"adata.obs[{slots.TOTAL_COUNTS!r}]"
        advice = "If these are the counts that pp.preprocess has kept, pass layer='counts'."
    elif raw is not None and raw.n_vars > adata.n_vars:
        x = raw.X[cells]
        kind = expression_kind(x)
        if kind not in COUNTS | NORMALISED:
            return False
        if kind in NORMALISED:
            x = x.expm1() if sp.issparse(x) else np.expm1(x)
        share = x[:, raw.var_names.isin(adata.var_names)].sum() / x.sum()
        origin = f"the {raw.n_vars:,} genes of adata.raw"
        advice = if_counts if kind in COUNTS else if_logarithms
    else:
        return False
    if share >= NEARLY_ALL:
        return False
    warnings.warn(
        f"The {adata.n_vars:,} genes of adata have {share:.0%} of the counts in {origin}: they "
        f"were selected, and their sum is not the depth of a cell. {advice}",
        UserWarning,
        skip_file_prefixes=(OURS,),
    )
    return True
