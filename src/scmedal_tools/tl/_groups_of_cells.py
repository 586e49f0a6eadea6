"""Effects of donors on groups of cells: states, cell types, or all cells together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from scmedal_tools._data import EXPRESSION, STATES, check_cells, check_obs, part_of, random_cells
from scmedal_tools.model import network_effects, training_indices

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from scmedal_tools.model import SCMEDAL_RE

ALL, STATE = "all", "state"


class CellGroups(NamedTuple):
    """Groups of cells, with what the effects on them are averages of."""

    names: list[str]
    n_cells: np.ndarray
    shares: Tensor
    """Shares of the states, groups x states."""
    of_network: Tensor
    """Mean effects of the network, in its scale, groups x levels x genes."""


def groups_of_cells(
    model: SCMEDAL_RE,
    adata: AnnData | MuData | None,
    by: str | None,
    factor: int,
    n_cells: int,
    seed: int,
) -> CellGroups:
    """Divide random cells of the training, or of ``adata``, into groups.

    Raises
    ------
    ValueError
        If the model has no effects on single genes, or there is no column ``by``.
    """
    if not model.module.has_gene_effects:
        raise ValueError(
            "Effects on groups of cells are those on single genes, which this model does not "
            "have: train a SCMEDAL_RE with the default preset, and finish() a checkpoint."
        )
    if adata is not None:
        check_cells(adata)
    among = training_indices(model) if adata is None else np.arange(adata.n_obs)
    cells = random_cells(among, n_cells, seed)
    group: np.ndarray | None = None
    names = [ALL]
    if by not in (None, STATE):
        part = part_of(model.adata if adata is None else adata, model.registry["setup_args"],
                       EXPRESSION)  # fmt: skip
        check_obs(part, by, what="by", min_levels=1)
        labels = pd.Categorical(part.obs[by].iloc[cells].astype(str))
        group, names = labels.codes.astype(np.int64), list(labels.categories)
    if by == STATE:
        names = _names_of_states(model)
    with torch.inference_mode():
        sizes, of_network = network_effects(
            model, factor, adata, cells, group=group, by_state=by == STATE
        )
    there = sizes.sum(1) > 0
    names = [name for name, is_there in zip(names, there, strict=True) if is_there]
    sizes, of_network = sizes[there], of_network[there]
    n_of_groups = sizes.sum(1)
    return CellGroups(names, n_of_groups.numpy(), sizes / n_of_groups[:, None], of_network)


def _names_of_states(model: SCMEDAL_RE) -> list[str]:
    if model.has_given_states:
        return list(map(str, model.get_state_registry(STATES)["categorical_mapping"]))
    return [f"state {i}" for i in range(model.module.gene_effects.n_states)]
