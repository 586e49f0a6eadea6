"""Predicted differences between batches against measured ones."""

from ._baselines import Counterfactual
from ._counterfactual_shift import (
    as_counterfactual,
    combinations_of,
    counterfactual_shift,
    known_cells,
    per_combination,
    shift_summary,
)
from ._effect_recovery import agreement, effect_recovery
from ._lemur_counterfactual import lemur_counterfactual
from ._mrvi_counterfactual import mrvi_counterfactual
from ._registered_expression import registered_expression
from ._scvi_counterfactual import scvi_counterfactual
from ._swap_quality import swap_quality

__all__ = [
    "Counterfactual",
    "agreement",
    "as_counterfactual",
    "combinations_of",
    "counterfactual_shift",
    "effect_recovery",
    "known_cells",
    "lemur_counterfactual",
    "mrvi_counterfactual",
    "per_combination",
    "registered_expression",
    "scvi_counterfactual",
    "shift_summary",
    "swap_quality",
]
