"""Why a training ended, and whether it was too early."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from scmedal_tools.train import SELECTION

if TYPE_CHECKING:
    from scmedal_tools.model import MedalModel

# Share of what a training gained after its first tenth. If the last tenth of its epochs brought
# more, it was too short: in the demo the last ten of 100 bring 1.5%, and of 40 epochs the last
# four bring 3.3%.
SMALL_GAIN = 0.02


def why_it_ended(trained: MedalModel) -> str:
    """Why the training of a model that was just trained ended."""
    n_epochs = trained.trainer.current_epoch
    if n_epochs < trained.trainer.max_epochs:
        return f"stopped after {n_epochs} epochs: no longer improving"
    return f"all {n_epochs} epochs"


def still_improving(trained: MedalModel) -> bool:
    """Whether the last tenth of the epochs gained more than little."""
    criterion = trained.history.get(SELECTION)
    if trained.best_epoch_ is None or criterion is None:
        return False
    values = criterion.iloc[:, 0].to_numpy(float)
    tenth = ceil(len(values) / 10)
    if len(values) == tenth:
        return True
    best, before = values[-tenth:].min(), values[:-tenth].min()
    return bool(before - best > SMALL_GAIN * (values[tenth] - best))
