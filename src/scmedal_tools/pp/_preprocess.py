"""Raw counts to log-normalised expression of highly variable genes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

from scmedal_tools._compat import replace_content
from scmedal_tools._data import (
    POSITIVE,
    check_argument,
    check_counts,
    check_in_memory,
    check_names,
    check_obs,
    size_factors,
    slots,
    warn_of_selected_genes,
    where,
    whole,
)

if TYPE_CHECKING:
    from typing import TypeGuard

    from numpy.typing import NDArray

MIN_CELLS_PER_BATCH: Final = 50
"""Batches with fewer cells have no vote in the selection of highly variable genes."""

PASS_TOTALS: Final = (
    f"Pass size_factor_key={slots.TOTAL_COUNTS!r}, or delete that column if the counts were "
    "changed since, for example thinned."
)
TOTALS_OF_RAW: Final = (
    f"Start again from the counts with size_factor_key={slots.TOTAL_COUNTS!r}, after this line:\n"
    f"adata.obs[{slots.TOTAL_COUNTS!r}] = np.asarray(adata.raw.X.sum(axis=1, dtype=float)).ravel()"
)
NO_NEED: Final = (
    "adata.raw is log-normalised with all genes. Start again from the counts, and run this line "
    "instead:\n"
    "adata.layers['counts'] = {}.copy(); adata.X = adata.raw[:, adata.var_names].X.copy()"
)
"""What to do if genes were selected before."""


def preprocess(
    adata: AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    n_top_genes: int | None = 3000,
    min_genes: int = 10,
    min_cells: int = 3,
    target_sum: float = 1e4,
    size_factor_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Filter, normalise, log-transform and select highly variable genes.

    The steps of the scMEDAL paper (supplementary section 2.2): keep cells with at least
    ``min_genes`` genes, then genes found in at least ``min_cells`` of these cells; normalise every
    cell to ``target_sum`` counts; take ``log(1 + x)``; keep the ``n_top_genes`` most variable
    genes. The paper keeps 2,916 genes (``n_top_genes=2916``) for AML and ASD and 3,000 for the
    healthy heart.

    Nothing is changed when an error is raised.

    Parameters
    ----------
    adata
        Cells x genes with raw counts, dense or sparse, in memory. A view becomes an object of its
        own, with a warning, as in scanpy.
    layer
        Layer with the counts; ``None`` for ``adata.X``.
    batch_key
        Column of ``adata.obs`` with the batch or donor. Variable genes are then selected within
        each batch and ranked by the number of batches that select them, so that differences
        *between* batches do not determine the genes. Batches with fewer than 50 cells (after the
        filter) are not used for selection, and all cells are pooled if fewer than two batches are
        larger: on the AML data of the paper the genes found in 30 cells of a donor agree with
        those of the whole donor hardly better than chance, and pooling then works better.
    n_top_genes
        Number of genes to keep, in the order of ``adata``; ``None`` for all.
    min_genes
        Fewest genes with a count that a cell may have.
    min_cells
        Fewest cells with a count that a gene may have.
    target_sum
        Total of every cell after the normalisation, in counts.
    size_factor_key
        Column of ``adata.obs`` with the total counts of each cell over the *whole* transcriptome.
        Needed where ``adata`` contains a subset of the genes: their sum is not the library
        size. ``None`` for the sum over the genes that pass ``min_cells``.
    copy
        Return a new object and leave ``adata`` as it is.

    Returns
    -------
    ``None``, or the new object with ``copy=True``. Cells and genes that do not pass are removed,
    and these are set:

    ``X``
        ``log(1 + target_sum * counts / total)``, in natural logarithms; CSR where the counts are
        sparse.
    ``layers["counts"]``
        The raw counts.
    ``obs["total_counts_all_genes"]``
        The counts of each cell over all genes that were given, or what ``size_factor_key`` names
        if that is no less than a cell's own counts. Not where a warning says that genes were
        selected before, and not in place of an earlier one.
    ``var``
        ``means``, ``dispersions``, ``dispersions_norm``, ``highly_variable`` and, with a batch
        key, ``highly_variable_nbatches``, where genes were selected; see
        :func:`scanpy.pp.highly_variable_genes`.
    ``uns["scmedal_preprocess"]``
        The parameters, what the values were taken for (``taken_as``), the batches not used for
        selection (``batches_without_vote``), and ``genes_selected_before`` with a warning.
    ``uns["log1p"]``
        The base of the logarithm, for scanpy.

    Raises
    ------
    ValueError
        If a number is outside its range, the data are not raw counts or are backed, a column or
        layer does not exist, the library sizes are not positive numbers, names are not unique, or
        no cell or gene is left.

    Warns
    -----
    UserWarning
        For counts of cells that have nearly the same total, as SCTransform's corrected counts;
        and if genes were selected before, without ``size_factor_key``.

    Examples
    --------
    >>> import anndata
    >>> import numpy as np
    >>> import scmedal_tools as smt
    >>> counts = np.random.default_rng(0).poisson(1.0, size=(100, 40))
    >>> adata = anndata.AnnData(counts.astype("float32"))
    >>> smt.pp.preprocess(adata, n_top_genes=20)
    >>> adata.shape
    (100, 20)
    """
    check_argument("n_top_genes", n_top_genes, whole(), or_none=True)
    check_argument("min_genes", min_genes, whole(0))
    check_argument("min_cells", min_cells, whole(0))
    check_argument("target_sum", target_sum, POSITIVE)
    taken_as = _check_input(adata, layer, batch_key)
    parameters: dict[str, Any] = {
        "layer": layer,
        "batch_key": batch_key,
        "n_top_genes": n_top_genes,
        "min_genes": min_genes,
        "min_cells": min_cells,
        "target_sum": target_sum,
        "size_factor_key": size_factor_key,
        "taken_as": taken_as,
    }
    advice = PASS_TOTALS, TOTALS_OF_RAW, NO_NEED.format(where(layer))
    selected = size_factor_key is None and warn_of_selected_genes(adata, layer, *advice)
    parameters["genes_selected_before"] = selected or None
    counts = adata.X if layer is None else adata.layers[layer]
    if counts.dtype == np.float16:  # ends at 65,504, and the total of a cell may not
        counts = counts.astype(np.float32)
    totals = _totals(counts)
    cells, genes = _filter(counts, min_genes, min_cells)
    counts = (sp.csr_matrix(counts) if sp.issparse(counts) else counts)[cells][:, genes]
    sizes = _library_sizes(adata, size_factor_key, counts, cells)
    of_all = totals[cells] if size_factor_key is None else sizes
    are_totals = not selected and (of_all >= _totals(counts)).all()
    x = _log_normalise(counts, sizes, target_sum)

    table = None
    if _has_to_select(n_top_genes, genes.size):
        batches = None if batch_key is None else adata.obs[batch_key].iloc[cells].astype(str)
        voting = None if batches is None else _voting_batches(batches)
        table = _variable_genes(x, adata.var_names[genes], batches, voting, n_top_genes)
        keep = table["highly_variable"].to_numpy()
        genes, counts, x, table = genes[keep], counts[:, keep], x[:, keep], table[keep]
        if batches is not None:
            parameters["batches_without_vote"] = sorted(set(batches) - set(voting or ()))

    result = adata[cells, genes].copy()
    result.X, result.layers[slots.COUNTS_LAYER] = x, counts
    if are_totals and slots.TOTAL_COUNTS not in adata.obs:
        result.obs[slots.TOTAL_COUNTS] = of_all
    if table is not None:
        result.var[table.columns] = table
        result.uns["hvg"] = {"flavor": "seurat"}
    result.uns["log1p"] = {"base": None}
    result.uns[slots.PREPROCESSING] = {k: v for k, v in parameters.items() if v not in (None, [])}
    if copy:
        return result
    if adata.is_view:
        warnings.warn(
            "adata is a view: it becomes an object of its own, and the AnnData it was taken from "
            "stays as it is. To keep the result of preprocess(adata[cells]), pass copy=True.",
            stacklevel=2,
        )
    replace_content(adata, result)
    return None


def variable_genes(adata: AnnData, n_top_genes: int, batch_key: str) -> NDArray[np.bool_]:
    """Which genes :func:`preprocess` would keep of cells with log-normalised expression."""
    genes, batches = adata.var_names, adata.obs[batch_key].astype(str)
    if not _has_to_select(n_top_genes, len(genes)):
        return np.ones(len(genes), dtype=bool)
    table = _variable_genes(adata.X, genes, batches, _voting_batches(batches), n_top_genes)
    return table["highly_variable"].to_numpy()


def _check_input(adata: AnnData, layer: str | None, batch_key: str | None) -> str:
    check_in_memory(adata)
    check_names(adata)
    kind = check_counts(adata, layer)
    if batch_key is not None:
        check_obs(adata, batch_key, min_levels=1)
    return kind


def _filter(
    counts: Any, min_genes: int, min_cells: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the cells and, counted in these cells, of the genes to keep."""
    keep_cells, n_genes = sc.pp.filter_cells(counts, min_genes=min_genes, inplace=False)
    if not keep_cells.any():
        raise ValueError(
            f"None of the {len(keep_cells):,} cells has counts for min_genes={min_genes} genes: "
            f"the fullest has {n_genes.max():,}. Lower min_genes."
        )
    keep_genes, n_cells = sc.pp.filter_genes(
        counts[np.flatnonzero(keep_cells)], min_cells=min_cells, inplace=False
    )
    if not keep_genes.any():
        raise ValueError(
            f"None of the {len(keep_genes):,} genes has counts in min_cells={min_cells} cells: "
            f"the most frequent is in {n_cells.max():,}. Lower min_cells."
        )
    return np.flatnonzero(keep_cells), np.flatnonzero(keep_genes)


def _library_sizes(
    adata: AnnData, key: str | None, counts: Any, cells: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the total by which each kept cell is divided, shape (kept cells,)."""
    totals = _totals(counts)
    if key is None:
        # A cell without counts (min_genes=0) stays zero.
        return np.maximum(totals, 1)
    sizes = size_factors(adata, key, cells)
    too_small = sizes < totals
    if too_small.any():
        warnings.warn(
            f"obs[{key!r}] is smaller than the cell's own counts in {too_small.sum():,} of "
            f"{sizes.size:,} cells: is it the total over all genes, in counts?",
            stacklevel=3,
        )
    return sizes


def _totals(counts: Any) -> NDArray[np.float64]:
    """Return the sum of each cell, of which single precision is exact up to 16 million only."""
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def _log_normalise(counts: Any, sizes: NDArray[np.float64], target_sum: float) -> Any:
    """Return ``log(1 + target_sum * counts / size)``, in the float type of the counts."""
    dtype = counts.dtype if counts.dtype.kind == "f" else np.dtype(np.float32)
    counts, scale = counts.astype(dtype), (target_sum / sizes).astype(dtype)[:, None]
    if sp.issparse(counts):
        return counts.multiply(scale).tocsr().log1p()
    return np.log1p(counts * scale)


def _has_to_select(n_top_genes: int | None, n_genes: int) -> TypeGuard[int]:
    if n_top_genes is not None and n_top_genes > n_genes:
        warnings.warn(
            f"n_top_genes={n_top_genes:,}, but {n_genes:,} genes pass the filters: all are kept.",
            stacklevel=3,
        )
    return n_top_genes is not None and n_top_genes < n_genes


def _voting_batches(batches: pd.Series) -> list[str]:
    """Return the batches large enough to select genes; none where fewer than two are."""
    sizes = batches.value_counts()
    voting = sizes.index[sizes >= MIN_CELLS_PER_BATCH].tolist()
    if len(voting) == len(sizes):
        return voting
    warnings.warn(
        f"{len(sizes) - len(voting):,} of {len(sizes):,} batches have fewer than "
        f"{MIN_CELLS_PER_BATCH} cells: "
        + (
            "they are not used to select variable genes."
            if len(voting) > 1
            else "variable genes are selected over all cells together."
        ),
        stacklevel=3,
    )
    return voting if len(voting) > 1 else []


def _variable_genes(
    x: Any,
    gene_names: pd.Index,
    batches: pd.Series | None,
    voting: list[str] | None,
    n_top_genes: int,
) -> pd.DataFrame:
    """Return scanpy's table of the genes, with exactly ``n_top_genes`` marked as variable."""
    # An object of its own: scanpy turns the text columns of what it is given into categories.
    data = AnnData(x, var=pd.DataFrame(index=gene_names))
    if voting:
        data.obs["batch"] = pd.Categorical(batches)
        data = data[data.obs["batch"].isin(voting).to_numpy()].copy()
    with warnings.catch_warnings():
        # Said when one batch has fewer expressed genes than n_top_genes; the ranking over all
        # batches still gives that many.
        warnings.filterwarnings("ignore", message="`n_top_genes`", category=UserWarning)
        table = sc.pp.highly_variable_genes(
            data,
            n_top_genes=n_top_genes,
            flavor="seurat",
            batch_key="batch" if voting else None,
            inplace=False,
        )
    if not voting:
        # Genes that tie at the cut-off would all get through.
        ranked = table["dispersions_norm"].sort_values(ascending=False, kind="stable")
        table["highly_variable"] = table.index.isin(ranked.index[:n_top_genes])
    return table.drop(columns="mean_bin", errors="ignore")
