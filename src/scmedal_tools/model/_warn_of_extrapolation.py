"""A warning where hardly any training cells of the target batch support a counterfactual."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from scmedal_tools._data import random_cells

from ._states_of import states_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from ._base import MedalModel
    from ._inference import Indices
    from ._targets import Target
    from ._unseen import UnseenBatch

# Training cells of a batch in a state, with fewer of which its effects there are guessed.
FEWEST_CELLS = 5
# Share of the cells with support, below which a counterfactual is an extrapolation.
LEAST_SUPPORTED = 0.5
# Cells whose states are found, as a share needs no more.
N_CELLS = 2_000
# The warning is shown at the caller's line, beyond these.
OURS_AND_TORCH = str(Path(__file__).parents[1]), str(Path(torch.__file__).parent)


@torch.inference_mode()
def warn_of_extrapolation(
    model: MedalModel,
    transform_batch: Target | Sequence[Target | None] | None,
    adata: AnnData | MuData | None,
    indices: Indices | None = None,
    unseen_batch: UnseenBatch = "error",
) -> None:
    """Warn if most cells are in states in which a target batch has next to no training cells."""
    if not model.module.has_gene_effects:
        return
    n_cells = model.module.gene_effects.factors[0].sizes  # batches x states
    targets = model._asked(transform_batch)
    levels = {name: level for name, of in targets.items() if (level := of.get(0, -1)) >= 0}
    if not levels:
        return
    adata, asked = model._cells(adata, indices, unseen_batch)
    sample = random_cells(asked, N_CELLS, 0)
    states = states_of(model, adata, sample, unseen_batch)
    cells = torch.bincount(states, minlength=n_cells.shape[1])
    supported = ((n_cells.cpu() >= FEWEST_CELLS).long() @ cells) / cells.sum()
    guessed = [name for name, level in levels.items() if supported[level] < LEAST_SUPPORTED]
    if guessed:
        shown = ", ".join(map(str, guessed[:5])) + (", ..." if len(guessed) > 5 else "")
        warnings.warn(
            "Most of these cells are in states of which the model has seen fewer than "
            f"{FEWEST_CELLS} training cells in the target batch: {shown}. Their counterfactual "
            "there is an extrapolation from the batch's other cells and from other batches. "
            "smt.tl.admissibility says which cells are supported.",
            UserWarning,
            skip_file_prefixes=OURS_AND_TORCH,
        )
