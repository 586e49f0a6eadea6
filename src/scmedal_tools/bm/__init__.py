"""Benchmarks: scores, controls, cross-validation, and tests of counterfactuals."""

from ._balance import BalancedWeights, balance_weights
from ._confounding import Confounding, confounding
from ._count_models import mrvi_counterfactual, scvi_counterfactual
from ._cross_validate import CrossValidation, cross_validate
from ._donor_prediction import DonorPrediction, donor_prediction
from ._lemur import lemur_counterfactual
from ._mixing_classifier import Mixing, mixing_classifier, score_votes
from ._paper_tables import paper_tables
from ._recovery import effect_recovery
from ._scores import scores
from ._shift import counterfactual_shift, shift_summary
from ._summarise import summarise_folds
from ._swap import swap_quality
from ._write_tables import write_tables

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
