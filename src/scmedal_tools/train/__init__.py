"""Splits, presets and training plans."""

from ._folds import Folds, cross_validation_folds
from ._plans import MedalTrainingPlan, RETrainingPlan
from ._presets import PRESETS, Preset, get_preset
from ._splits import MedalDataSplitter, hold_out_combinations, stratified_split

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
    "stratified_split",
]
