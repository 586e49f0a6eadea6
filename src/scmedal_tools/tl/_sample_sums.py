"""Counts of every sample in every cell type, with the cells they are sums of."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scmedal_tools._data import (
    COUNTS,
    available_layers,
    check_names,
    check_obs,
    depth_ratio,
    expression_of,
    size_factors,
    slots,
    summarise_expression,
    warn_of_doubt,
    warn_of_selected_genes,
    what_it_holds,
    where,
)
from scmedal_tools._sample_model import CountSums, sum_counts
from scmedal_tools.model import states_of

from ._models import check_has_random_effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scmedal_tools.model import SCMEDAL_RE

    from ._sample_design import SampleDesign

ALL_CELLS = "all cells"
# What was measured, see benchmarks/group_effects.py.
MEASURED_DEPTH_RATIO = 2.0
THIN = (
    "Thin the counts of the deeper samples to the depth of the others "
    "(scanpy.pp.downsample_counts), and see what remains."
)
USE_ALL = (
    "Use the counts of all genes, or name the column of obs with their totals in size_factor_key"
)
USE_TOTALS = (
    f"{USE_ALL}: {slots.TOTAL_COUNTS!r}, unless the counts were changed since, as by thinning."
)
USE_RAW = "Use the counts of all genes, with layer=None:\nadata = adata.raw.to_adata()"


@dataclass(frozen=True)
class StateSums:
    """Samples in a state."""

    name: str
    sample: np.ndarray
    """Position of each sample among those of the design, in their order."""
    sums: CountSums
    """Of the genes that are tested."""
    sizes: np.ndarray
    """To which the counts of each sample are relative, by all genes."""
    genes: pd.Index
    """Their names."""
    contrasts: dict[str, np.ndarray]
    """Those that the samples suffice to test."""

    @property
    def depth(self) -> np.ndarray:
        """Mean counts of a cell, by sample."""
        return self.sums.totals / self.sums.n_cells

    def numbers(self, design: SampleDesign, weights: np.ndarray) -> dict[str, float]:
        """Donors, samples and cells used for a contrast in this state, for its table."""
        matrix = design.matrix.to_numpy()[self.sample]
        return {
            "n_donors": len(np.unique(design.donor[self.sample])),
            "n_samples": len(self.sample),
            "n_cells": int(self.sums.n_cells.sum()),
            "depth_ratio": depth_ratio(self.depth, matrix, weights),
        }


def sample_sums(
    adata: AnnData,
    design: SampleDesign,
    labels: pd.Series,
    layer: str | None,
    size_factor_key: str | None,
    min_cells: int,
    min_counts: float,
) -> list[StateSums]:
    """Sum the counts of each sample in each state that has enough samples and counts.

    Raises
    ------
    ValueError
        If there are no raw counts, a column is missing or has gaps, or no state has enough.

    Warns
    -----
    UserWarning
        For states that have too few samples, counts of cells that have nearly the same total, and
        genes that were selected, without the totals of all.
    """
    _check_counts(adata, layer)
    check_names(adata)
    names, of_cells = labels.cat.categories, labels.cat.codes.to_numpy(int)
    if size_factor_key is None:
        warn_of_selected_genes(adata, layer, USE_TOTALS, USE_RAW, f"{USE_ALL}.")
    totals = None if size_factor_key is None else size_factors(adata, size_factor_key)
    n_samples = len(design.samples)
    of_groups = of_cells * n_samples + design.of_cells
    n_cells = np.bincount(of_groups, minlength=len(names) * n_samples)
    # Sums of all genes take memory: only those that may be needed.
    large = np.flatnonzero(n_cells >= min_cells)
    row = np.full(len(n_cells), -1)
    row[large] = np.arange(len(large))
    sums_of = sum_counts(expression_of(adata, layer), row[of_groups], len(large), totals)
    row[large[sums_of.totals <= 0]] = -1
    states, few = [], []
    for i, name in enumerate(names):
        rows = row[i * n_samples : (i + 1) * n_samples]
        sample = np.flatnonzero(rows >= 0)
        contrasts = design.testable(sample)
        few += [_in(name, c, design) for c in design.contrasts if c not in contrasts]
        if not contrasts:
            continue
        sums = sums_of.of_groups(rows[sample])
        tested = sums.counts.mean(0) >= max(min_counts, 1e-9)
        if tested.any():
            of_tested, genes = sums.of_genes(tested), adata.var_names[tested]
            states.append(StateSums(name, sample, of_tested, sums.sizes(), genes, contrasts))
    if not states:
        raise ValueError(
            f"No state has enough samples of min_cells={min_cells} cells, and genes of "
            f"min_counts={min_counts:g} counts in their mean: lower them, or take broader cell "
            "types."
        )
    if few := list(dict.fromkeys(few)):
        warnings.warn(
            f"Too few samples with min_cells={min_cells} cells for what is compared in "
            f"{', '.join(few[:10])}{', ...' if len(few) > 10 else ''}: nothing is tested there.",
            UserWarning,
            stacklevel=3,
        )
    return states


def labels_of(
    adata: AnnData, labels_key: str | None, model: SCMEDAL_RE | None = None
) -> pd.Series:
    """Cell type of each cell, or its state in a model, or one for all.

    Raises
    ------
    ValueError
        If both are given, or the column is missing or has gaps.
    """
    if labels_key is not None and model is not None:
        raise ValueError("labels_key and model both name states: pass one of them.")
    if labels_key is not None:
        check_obs(adata, labels_key, what="labels_key", min_levels=1)
        return adata.obs[labels_key].astype(str).astype("category")
    if model is not None:
        check_has_random_effects(model)
        numbers = states_of(model, adata).numpy().astype(str)
        states = np.char.add("state_", np.char.zfill(numbers, 2))
        return pd.Series(states, adata.obs_names, dtype="category")
    return pd.Series(ALL_CELLS, adata.obs_names, dtype="category")


def merge_states(states: Sequence[StateSums], name: str) -> StateSums:
    """All states in one, of which only the numbers of cells and the totals are meant."""
    sample = np.unique(np.concatenate([state.sample for state in states]))
    n_cells, totals = np.zeros((2, len(sample)))
    for state in states:
        at = np.searchsorted(sample, state.sample)
        n_cells[at] += state.sums.n_cells
        totals[at] += state.sums.totals
    nothing = np.empty((len(sample), 0))
    sums = CountSums(nothing, totals, n_cells, nothing)
    return StateSums(name, sample, sums, totals, pd.Index([]), {})


def _in(state: str, contrast: str, design: SampleDesign) -> str:
    return state if len(design.contrasts) == 1 else f"{state} ({contrast})"


def _check_counts(adata: AnnData, layer: str | None) -> None:
    found = summarise_expression(expression_of(adata, layer))
    if found.kind not in COUNTS:
        raise ValueError(
            f"{where(layer)} {what_it_holds(found)}; raw counts (whole numbers) are summed here. "
            f"Name their layer, such as layer='counts'. {available_layers(adata)}".rstrip()
        )
    warn_of_doubt(adata, layer, found)
