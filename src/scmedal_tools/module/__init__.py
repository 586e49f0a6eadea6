"""Networks behind the models, as scvi-tools modules."""

from ._fe import FEModule
from ._re import REModule
from ._reden import RandomEffects, RedenBlock
from ._settings import (
    AdversarySettings,
    Architecture,
    EffectsSettings,
    ObjectiveSettings,
    ReconstructionSettings,
)

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
