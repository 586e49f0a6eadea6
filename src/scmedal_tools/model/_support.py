"""Whether training cells of the target batch support a counterfactual."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._base import MedalModel
    from ._inference import Minibatches
    from ._targets import Levels

# Training cells of a batch in a state, with fewer of which its effects there are guessed.
FEWEST_CELLS = 5
# Share of the cells above which the counterfactual is mostly a guess.
MOST = 0.5


def warn_of_extrapolation(
    model: MedalModel, targets: Mapping[str, Levels], minibatches: Minibatches
) -> None:
    """Warn if most cells are in states in which a target batch has next to no training cells."""
    if not model.module.has_gene_effects:
        return
    n_cells = model.module.gene_effects.factors[0].sizes  # batches x states
    levels = {name: level for name, of in targets.items() if (level := of.get(0, -1)) >= 0}
    if not levels:
        return
    cells = torch.zeros(n_cells.shape[1])
    for tensors in minibatches:
        cells += torch.bincount(model._state_of(tensors).cpu(), minlength=len(cells))
    guessed_share = (n_cells.cpu() < FEWEST_CELLS).float() @ (cells / cells.sum())
    guessed = [name for name, level in levels.items() if guessed_share[level] > MOST]
    if guessed:
        shown = ", ".join(map(str, guessed[:5])) + (", ..." if len(guessed) > 5 else "")
        warnings.warn(
            "Most of these cells are in states of which the model has seen fewer than "
            f"{FEWEST_CELLS} training cells in the target batch: {shown}. Their counterfactual "
            "there is an extrapolation from the batch's other cells and from other batches. "
            "scmedal_tools.tl.admissibility says which cells are supported.",
            UserWarning,
            stacklevel=4,  # beyond the caller, and torch's wrapper of it
        )
