"""States of cells, of a model with effects on single genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from torch import Tensor

    from ._base import MedalModel
    from ._inference import Indices
    from ._unseen import UnseenBatch


@torch.inference_mode()
def states_of(
    model: MedalModel,
    adata: AnnData | MuData | None,
    indices: Indices | None = None,
    unseen_batch: UnseenBatch = "error",
) -> Tensor:
    """State of each cell, ``(n_cells,)``, of a model with effects on single genes."""
    minibatches = model._minibatches(adata, indices, None, None, unseen_batch)
    return torch.cat([model._state_of(tensors).cpu() for tensors in minibatches])
