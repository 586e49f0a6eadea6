"""Networks behind the models, as scvi-tools modules."""

from ._fe import FEModule
from ._re import REModule
from ._reden import RandomEffects, RedenBlock

__all__ = ["FEModule", "REModule", "RandomEffects", "RedenBlock"]
