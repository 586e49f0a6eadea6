"""Networks behind the models, as scvi-tools modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

# For other folders of the package.
from ._base import WEIGHTED as WEIGHTED
from ._base import MedalModule as MedalModule
from ._distributed import average_over_processes as average_over_processes
from ._distributed import mean_over_processes as mean_over_processes
from ._distributed import n_processes as n_processes
from ._factor_levels import POPULATION_LEVEL as POPULATION_LEVEL
from ._factor_levels import as_levels as as_levels
from ._factor_levels import levels_of as levels_of
from ._fe import FEModule
from ._layers import Classifier as Classifier
from ._random_effects import RandomEffects
from ._re import REModule
from ._reden import RedenBlock
from ._reden import factor_of as factor_of
from ._settings import (
    AdversarySettings,
    Architecture,
    EffectsSettings,
    ObjectiveSettings,
    ReconstructionSettings,
)
from ._statistics import ExpressionStatistics as ExpressionStatistics

if TYPE_CHECKING:
    from ._reden import EffectsDraw as EffectsDraw

__all__ = [
    "AdversarySettings",
    "Architecture",
    "EffectsSettings",
    "FEModule",
    "ObjectiveSettings",
    "REModule",
    "RandomEffects",
    "ReconstructionSettings",
    "RedenBlock",
]


def __dir__() -> list[str]:
    return list(__all__)
