"""Why a training ended, and whether it was too early."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from scmedal_tools.train import SELECTION

if TYPE_CHECKING:
    from scmedal_tools.model import MedalModel

# Share of all that a training gained. If the last tenth of its epochs brought more, it was too
# short: in the demo the last ten of 100 bring 0.6%, and of 40 epochs the last four bring 2%.
SMALL_GAIN = 0.01


def why_it_ended(trained: MedalModel) -> str:
    """Why the training of a model that was just trained ended."""
    n_epochs = trained.trainer.current_epoch
    if n_epochs < trained.trainer.max_epochs:
        return f"stopped after {n_epochs} epochs: no longer improving"
    return f"all {n_epochs} epochs"


def still_improving(trained: MedalModel) -> bool:
    """Whether the last epoch was the best, and the last tenth of them gained more than little."""
    criterion = trained.history.get(SELECTION)
    if trained.best_epoch_ is None or trained.best_epoch_ != len(criterion) - 1:
        return False
    values = criterion.iloc[:, 0].astype(float)
    before, last = values.iloc[: -ceil(len(values) / 10)], values.iloc[-1]
    return before.empty or bool(before.min() - last > SMALL_GAIN * (values.max() - last))
