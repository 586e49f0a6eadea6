"""Why a training ended, and whether it was too early."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from scmedal_tools.train import SELECTION, get_preset

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
    """Whether the last tenth of the epochs gained more than little.

    In the warm-up of early stopping, in which no epoch is the best, anything is more than that.
    """
    criterion, warms_up = trained.history.get(SELECTION), trained.best_epoch_ is None
    if criterion is None or (warms_up and not _stops_early(trained)):
        return False
    values = criterion.iloc[:, 0].to_numpy(float)
    tenth = ceil(len(values) / 10)
    if len(values) == tenth:
        return True
    best, before = values[-tenth:].min(), values[:-tenth].min()
    small_gain = 0 if warms_up else SMALL_GAIN
    return bool(before - best > small_gain * (values[tenth] - best))


def _stops_early(trained: MedalModel) -> bool:
    return get_preset(type(trained).__name__, trained.preset_).train["early_stopping"]
