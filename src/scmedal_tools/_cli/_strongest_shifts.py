"""Of all counterfactual shifts of a run those to look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._shifts_with_intervals import FEWEST_CELLS

if TYPE_CHECKING:
    from anndata import AnnData

N_SHOWN = 10


def moved_groups(means: AnnData) -> AnnData:
    """Shifts to another batch, of groups of enough cells; see :func:`shifts_with_intervals`."""
    groups = means.obs.astype({"source": str, "target": str})  # writing makes categories of them
    return means[(groups["source"] != groups["target"]) & (groups["n_cells"] >= FEWEST_CELLS)]


def strongest_shifts(means: AnnData, target: str) -> pd.DataFrame:
    """Genes with the largest shifts to a target, each of the group of cells where it is largest.

    Parameters
    ----------
    means
        Shifts with their intervals.
    target
        One of the targets.

    Returns
    -------
    pandas.DataFrame
        The largest first, of those whose interval excludes zero: ``gene``; ``source``,
        ``cell_type`` (if there are any) and ``n_cells`` of the group; ``shift``, ``lower`` and
        ``upper``.
    """
    moved = moved_groups(means)
    moved = moved[moved.obs["target"] == target]
    values = {name: np.asarray(moved.layers[name]) for name in ("lower", "upper")}
    values["shift"] = np.asarray(moved.X)
    excludes_zero = (values["lower"] > 0) | (values["upper"] < 0)
    sizes = pd.DataFrame(np.where(excludes_zero, np.abs(values["shift"]), 0.0)).stack()
    largest = sizes[sizes > 0].sort_values(ascending=False, kind="stable").index.to_frame()
    rows, genes = largest.drop_duplicates(1).head(N_SHOWN).to_numpy().T
    columns = [name for name in ("source", "cell_type", "n_cells") if name in moved.obs]
    table = moved.obs[columns].iloc[rows].reset_index(drop=True)
    table.insert(0, "gene", moved.var_names[genes])
    return table.assign(
        **{name: values[name][rows, genes] for name in ("shift", "lower", "upper")}
    )
