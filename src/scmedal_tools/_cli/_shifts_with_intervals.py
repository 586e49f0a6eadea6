"""Counterfactual shifts of all cells, with intervals that take seconds and not hours."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scmedal_tools import tl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scmedal_tools.model import SCMEDAL_RE, Target

N_DRAWS, INTERVAL = 50, 0.9
N_CELLS, FEWEST_CELLS = 3_000, 10
"""Cells of which the draws are computed, over all groups, and the fewest of each."""
VALUES_HELD = 2**28
"""Draws of shifts that are held at a time: 1 GiB."""


def shifts_with_intervals(
    model: SCMEDAL_RE,
    adata: AnnData,
    targets: Sequence[Target],
    labels_key: str | None,
    seed: int,
) -> AnnData:
    """Give what ``tl.counterfactual_means`` does: means of all cells, and draws of some.

    Cells of a group share their draws of the effects, so that those of a few cells are nearly
    those of all; they are centred on the shift of all.

    Parameters
    ----------
    model, adata, targets, labels_key
        See :func:`scmedal_tools.tl.counterfactual_means`.
    seed
        Of the choice of cells.
    """
    means = tl.counterfactual_means(model, adata, targets, labels_key=labels_key)
    groups = _groups(adata, [model.registry["setup_args"]["batch_key"], labels_key])
    cells = _some_of_each(groups, seed)
    n_groups = groups.max() + 1
    n_parts = min(n_groups, -(-N_DRAWS * means.n_obs * means.n_vars // VALUES_HELD))
    for part in np.array_split(np.arange(n_groups), n_parts):
        with warnings.catch_warnings():
            # Of all cells it was said above.
            warnings.filterwarnings("ignore", "Most of these cells are in states", UserWarning)
            drawn = tl.counterfactual_means(
                model,
                adata[cells[np.isin(groups[cells], part)]].copy(),
                targets,
                labels_key=labels_key,
                n_samples=N_DRAWS,
                interval=INTERVAL,
            )
        rows = means.obs_names.get_indexer(drawn.obs_names)
        centre = means.X[rows] - drawn.X
        for name, moved in (("sd", 0), ("lower", centre), ("upper", centre)):
            layer = means.layers.setdefault(name, np.empty_like(means.X))
            layer[rows] = drawn.layers[name] + moved
    return means


def _groups(adata: AnnData, keys: Sequence[str | None]) -> np.ndarray:
    """Code of each cell's group."""
    columns = adata.obs[[key for key in keys if key is not None]].astype(str)
    return columns.groupby(list(columns)).ngroup().to_numpy()


def _some_of_each(groups: np.ndarray, seed: int) -> np.ndarray:
    """Positions of cells at random, as many of each group as there are."""
    n_each = max(N_CELLS // (groups.max() + 1), FEWEST_CELLS)
    shuffled = pd.Series(groups).sample(frac=1, random_state=seed)
    return np.sort(shuffled.groupby(shuffled).head(n_each).index)
