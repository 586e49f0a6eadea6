"""Benchmarks of what the models claim."""

from ._mixing_classifier import Mixing, mixing_classifier, score_votes
from ._recovery import effect_recovery
from ._scvi import scvi_counterfactual
from ._shift import counterfactual_shift, shift_summary
from ._swap import swap_quality

__all__ = [
    "Mixing",
    "counterfactual_shift",
    "effect_recovery",
    "mixing_classifier",
    "score_votes",
    "scvi_counterfactual",
    "shift_summary",
    "swap_quality",
]
