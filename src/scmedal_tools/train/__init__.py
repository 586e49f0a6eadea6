"""Splits, presets and training plans."""

from ._plans import MedalTrainingPlan, RETrainingPlan
from ._presets import PRESETS, Preset, get_preset
from ._splits import MedalDataSplitter, hold_out_combinations, stratified_split

__all__ = [
    "PRESETS",
    "MedalDataSplitter",
    "MedalTrainingPlan",
    "Preset",
    "RETrainingPlan",
    "get_preset",
    "hold_out_combinations",
    "stratified_split",
]
