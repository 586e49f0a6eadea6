"""Tests of genes between two groups of donors that need no network, and are given the types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from _pseudobulk_tests import log_cpm, moderated_t, of_donors, sizes_by_type
from scipy import stats

import scmedal_tools as smt
from scmedal_tools._sample_model import sum_counts

if TYPE_CHECKING:
    import anndata as ad

MIN_CELLS = 5  # of a donor in a type


def of_own_cells(adata: ad.AnnData, in_group: np.ndarray) -> np.ndarray:
    """P-values with cells as replicates."""
    cells, measured = in_group[donors_of(adata)], adata.X.toarray().astype(np.float64)
    p = stats.ttest_ind(measured[cells], measured[~cells]).pvalue
    return np.where(np.isnan(p), 1.0, p)  # of genes that no cell expresses


def baselines(adata: ad.AnnData, in_group: np.ndarray, label: str | None) -> dict[str, np.ndarray]:
    """P-values of all genes; NaN where a method does not test.

    Parameters
    ----------
    adata
        Log-normalised cells with counts in a layer.
    in_group
        Of each donor.
    label
        Type of the cells that are tested; without, all, types apart.
    """
    if label is not None:
        adata = adata[adata.obs["cell_type"] == label].copy()
    donor = donors_of(adata)
    kind = adata.obs["cell_type"].cat.remove_unused_categories().cat.codes.to_numpy(int)
    _, group, n_cells = np.unique(
        donor * (kind.max() + 1) + kind, return_inverse=True, return_counts=True
    )
    enough = n_cells[group] >= MIN_CELLS
    kept, donor, kind = adata[enough], donor[enough], kind[enough]
    _, first, group, n_cells = np.unique(
        group[enough], return_index=True, return_inverse=True, return_counts=True
    )
    sums = sum_counts(kept.layers["counts"], group, len(first))
    means = (np.eye(len(first))[:, group] @ kept.X.toarray()) / n_cells[:, None]
    weights = np.repeat(n_cells[:, None].astype(float), adata.n_vars, axis=1)
    of_samples = (weights, kind[first], donor[first], in_group[donor[first]].astype(int))
    sizes = sizes_by_type(sums, kind[first])
    found = {}
    for name, values in (
        ("means_by_type", means),
        ("sums_by_type", log_cpm(sums.counts, sizes)),
    ):
        of_each, _, of_group = of_donors(values, *of_samples)
        matrix = np.column_stack([np.ones(len(of_each)), of_group])
        found[name] = moderated_t(of_each, matrix, np.array([0, 1]))
    return found | {
        "group_effects": of_effects(adata, in_group, label),
        "cells": of_own_cells(adata, in_group),
    }


def of_effects(adata: ad.AnnData, in_group: np.ndarray, label: str | None) -> np.ndarray:
    adata.obs["group"] = np.where(in_group[donors_of(adata)], "a", "b")
    labels = None if label is not None else "cell_type"
    table = smt.tl.group_effects(
        adata, "~ group", "donor", labels_key=labels, layer="counts", min_cells=MIN_CELLS
    ).table
    table = table[table["state"] == ("overall" if label is None else "all cells")]
    p = table.set_index("variable")["p_value"]
    return p.reindex(adata.var_names).to_numpy()


def donors_of(adata: ad.AnnData) -> np.ndarray:
    """Number of the donor of each cell."""
    return adata.obs["donor"].cat.codes.to_numpy(int)
