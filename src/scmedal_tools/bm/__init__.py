"""Benchmarks of what the models claim."""

from ._balance import BalancedWeights, balance_weights
from ._recovery import effect_recovery
from ._scvi import scvi_counterfactual
from ._shift import counterfactual_shift, shift_summary
from ._swap import swap_quality

__all__ = [
    "BalancedWeights",
    "balance_weights",
    "counterfactual_shift",
    "effect_recovery",
    "scvi_counterfactual",
    "shift_summary",
    "swap_quality",
]
