"""Benchmarks of what the models claim."""

from ._confounding import Confounding, confounding
from ._folds import summarise_folds
from ._recovery import effect_recovery
from ._scores import scores
from ._scvi import scvi_counterfactual
from ._shift import counterfactual_shift, shift_summary
from ._swap import swap_quality

__all__ = [
    "Confounding",
    "confounding",
    "counterfactual_shift",
    "effect_recovery",
    "scores",
    "scvi_counterfactual",
    "shift_summary",
    "summarise_folds",
    "swap_quality",
]
