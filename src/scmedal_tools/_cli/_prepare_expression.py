"""Expression as all jobs take it, from counts or their logarithms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmedal_tools import pp
from scmedal_tools._data import (
    LOGARITHMS,
    doubt,
    expression_of,
    size_factors,
    slots,
    summarise_expression,
    what_it_holds,
    where,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

    from ._timed_steps import TimedSteps

DEFAULT_GENES = 3000
SELECTED_BEFORE = (
    "Genes were selected before, or the counts were changed since: cells were normalised by their "
    "sums over these genes. Unless these are all, pass a column with the counts of each cell over "
    "all genes as --size-factor-key."
)


def prepare_expression(
    adata: AnnData,
    batch_key: str,
    layer: str | None,
    size_factor_key: str | None,
    n_top_genes: int | None,
    steps: TimedSteps,
) -> bool:
    """Preprocess raw counts, and use log-normalised expression as it is, with all genes.

    Parameters
    ----------
    adata
        Cells; ``X`` is log-normalised afterwards.
    batch_key, layer, size_factor_key, n_top_genes
        See :func:`scmedal_tools.pp.preprocess`. If there are no more than ``n_top_genes`` genes,
        all are kept.
    steps
        Steps of the job, in which it is noted what the values look like.

    Returns
    -------
    bool
        Whether there were raw counts.
    """
    found = summarise_expression(expression_of(adata, layer))
    steps.expression = f"{where(layer)} {what_it_holds(found)}"
    steps.doubt = doubt(layer, found.kind)
    if found.kind in LOGARITHMS:
        steps.announce(f"  {steps.expression}: used as it is, with all genes")
        if size_factor_key is not None:
            size_factors(adata, size_factor_key)  # or it is refused after the trainings
            steps.announce(f"  size factors in {size_factor_key!r}: for --condition-key only")
        adata.uns[slots.PREPROCESSING] = adata.uns.get(slots.PREPROCESSING, {}) | {
            "taken_as": found.kind
        }
        if layer is not None:
            adata.X = adata.layers[layer].copy()
        return False
    pp.preprocess(
        adata,
        layer=layer,
        batch_key=batch_key,
        n_top_genes=n_top_genes if n_top_genes and n_top_genes < adata.n_vars else None,
        size_factor_key=size_factor_key,
    )
    if "genes_selected_before" in adata.uns[slots.PREPROCESSING]:
        steps.doubt = f"{steps.doubt} {SELECTED_BEFORE}".lstrip()
    return True


def announce_size(
    adata: AnnData, given: tuple[int, int], batch_key: str, announce: Callable[[str], None]
) -> None:
    """Say how many cells and genes there are, of how many that were given, and the batches."""
    cells, genes = (
        f"{kept:,}" if kept == before else f"{kept:,} of {before:,}"
        for kept, before in zip(adata.shape, given, strict=True)
    )
    n_batches = adata.obs[batch_key].nunique()
    announce(f"  {cells} cells x {genes} genes, {n_batches:,} batches")
