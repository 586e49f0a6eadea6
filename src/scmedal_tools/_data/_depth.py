"""How deep the cells of samples were sequenced, and whether that goes with what is tested."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from . import slots
from ._check_cells import expression_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

# Ratio of the counts of cells beyond which log-normalised values are warned of; what it does to
# p-values is measured in benchmarks/group_effects.py.
UNEQUAL_DEPTH = 1.25


def cell_depth(adata: AnnData, layer: str | None) -> np.ndarray:
    """Counts of each cell; where there is no layer of counts, its number of expressed genes."""
    if slots.COUNTS_LAYER in adata.layers:
        return np.asarray(adata.layers[slots.COUNTS_LAYER][:].sum(1), dtype=float).ravel()
    return np.asarray((expression_of(adata, layer)[:] != 0).sum(1), dtype=float).ravel()


def depth_ratio(depth: np.ndarray, design: np.ndarray, contrast: np.ndarray) -> float:
    """Factor by which the counts of a cell differ between samples at the ends of a contrast.

    Parameters
    ----------
    depth
        Mean counts of a cell, by sample.
    design
        Samples x coefficients.
    contrast
        Rows of the contrast x coefficients, estimable; of several the one that differs most.
    """
    coefficients = np.linalg.lstsq(design, np.log(depth), rcond=None)[0]
    logarithms = extent(design, contrast) * (contrast @ coefficients)
    return float(np.exp(logarithms[np.abs(logarithms).argmax()]))


def extent(design: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """How far apart samples are in each row of a contrast: 1 for groups, a number's range."""
    return np.ptp(design @ (contrast / np.square(contrast).sum(1, keepdims=True)).T, axis=0)


def warn_of_depth(table: pd.DataFrame, bound: float, consequence: str) -> None:
    """Warn where the depth ratio of a state and contrast, or its inverse, is beyond a bound.

    Of genes measured in different cells the ratio that is furthest from 1 counts.
    """
    ratios = table.dropna(subset="depth_ratio").set_index(["state", "contrast"])["depth_ratio"]
    order = np.log(ratios).abs().to_numpy().argsort()
    ratios = ratios.iloc[order].groupby(level=[0, 1], sort=False).last()
    beyond = ratios[np.maximum(ratios, 1 / ratios) > bound]
    if beyond.empty:
        return
    named = [f"{contrast} in {state} {ratio:.2f}" for (state, contrast), ratio in beyond.items()]
    warnings.warn(
        f"Sequencing depth differs with what is tested: {'; '.join(named[:5])}"
        f"{', ...' if len(named) > 5 else ''} (ratios of counts of a cell). {consequence}",
        UserWarning,
        stacklevel=3,
    )
