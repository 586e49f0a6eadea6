"""Levels that a cell has of the factors of the random effects, ``(n_cells, n_factors)``.

The first factor is the batch. Level -1 is the population, in which effects are at their mean, 0;
levels beyond those trained on are batches that the model has not seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scvi import REGISTRY_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

POPULATION_LEVEL = -1


def levels_of(tensors: Mapping[str, Tensor]) -> Tensor:
    """Levels of the cells of a minibatch, ``(n_cells, n_factors)``."""
    levels = tensors[REGISTRY_KEYS.BATCH_KEY].long().reshape(-1, 1)
    if REGISTRY_KEYS.CAT_COVS_KEY not in tensors:
        return levels
    return torch.cat([levels, tensors[REGISTRY_KEYS.CAT_COVS_KEY].long()], dim=1)


def as_levels(levels: Tensor, n_factors: int, of_targets: bool = False) -> Tensor:
    """Levels of shape ``(n_cells, n_factors)``; of a single factor they may be ``(n_cells,)``.

    One row stands for cells that all have the same. With ``of_targets``, those of several targets
    are on further axes before.

    Raises
    ------
    ValueError
        If the levels of a factor are missing, or there are more than those of the factors, or
        further axes without ``of_targets``.
    """
    if levels.ndim == 1:
        levels = levels[:, None]
    if levels.shape[-1] != n_factors or (levels.ndim > 2 and not of_targets):
        raise ValueError(
            f"Levels of shape {tuple(levels.shape)} do not fit {n_factors} factor(s): give the "
            "level of every cell of every factor, the batch first, of shape "
            f"(n_cells, {n_factors}); {POPULATION_LEVEL} is the population."
        )
    return levels
