"""Splits, presets and training plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scmedal_tools._quiet import quiet

# For other folders of the package.
from ._best_weights import BestWeights as BestWeights
from ._folds import Folds, cross_validation_folds
from ._loaded_minibatches import loaded_minibatches as loaded_minibatches
from ._natural_gradient import ENOUGH_BATCHES as ENOUGH_BATCHES
from ._plans import SELECTION as SELECTION
from ._plans import DivergedError as DivergedError
from ._plans import MedalTrainingPlan
from ._presets import PRESETS, Preset, get_preset
from ._query_plan import QueryTrainingPlan as QueryTrainingPlan
from ._re_plan import SETTLE_AFTER as SETTLE_AFTER
from ._re_plan import RETrainingPlan
from ._say_why_it_stopped import say_why_it_stopped as say_why_it_stopped
from ._splits import MedalDataSplitter, hold_out_combinations, stratified_split
from ._splits import check_external_indexing as check_external_indexing
from ._stoppable_trainer import StoppableTrainRunner as StoppableTrainRunner

if TYPE_CHECKING:
    from ._folds import Scheme as Scheme

__all__ = [
    "PRESETS",
    "Folds",
    "MedalDataSplitter",
    "MedalTrainingPlan",
    "Preset",
    "RETrainingPlan",
    "cross_validation_folds",
    "get_preset",
    "hold_out_combinations",
    "quiet",
    "stratified_split",
]


def __dir__() -> list[str]:
    return list(__all__)
