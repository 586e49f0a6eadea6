"""Benchmarks: scores, controls, cross-validation, and tests of counterfactuals."""

from ._confounding import Confounding, confounding
from ._counterfactuals import (
    counterfactual_shift,
    effect_recovery,
    lemur_counterfactual,
    mrvi_counterfactual,
    scvi_counterfactual,
    shift_summary,
    swap_quality,
)
from ._cross_validation import (
    BalancedWeights,
    CrossValidation,
    Mixing,
    balance_weights,
    cross_validate,
    mixing_classifier,
    paper_tables,
    score_votes,
    summarise_folds,
    write_tables,
)
from ._donors import DonorPrediction, donor_prediction
from ._scores import scores

__all__ = [
    "BalancedWeights",
    "Confounding",
    "CrossValidation",
    "DonorPrediction",
    "Mixing",
    "balance_weights",
    "confounding",
    "counterfactual_shift",
    "cross_validate",
    "donor_prediction",
    "effect_recovery",
    "lemur_counterfactual",
    "mixing_classifier",
    "mrvi_counterfactual",
    "paper_tables",
    "score_votes",
    "scores",
    "scvi_counterfactual",
    "shift_summary",
    "summarise_folds",
    "swap_quality",
    "write_tables",
]
