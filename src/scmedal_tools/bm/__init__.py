"""Benchmarks: scores, controls, cross-validation, and tests of counterfactuals."""

# Names imported as themselves (X as X) are for other folders of the package.
from ._confounding import Confounding, confounding
from ._counterfactuals import Counterfactual as Counterfactual
from ._counterfactuals import agreement as agreement
from ._counterfactuals import as_counterfactual as as_counterfactual
from ._counterfactuals import combinations_of as combinations_of
from ._counterfactuals import (
    counterfactual_shift,
    effect_recovery,
    lemur_counterfactual,
    mrvi_counterfactual,
    scvi_counterfactual,
    shift_summary,
    swap_quality,
)
from ._counterfactuals import known_cells as known_cells
from ._counterfactuals import per_combination as per_combination
from ._counterfactuals import registered_expression as registered_expression
from ._cross_validation import BATCH_LABEL as BATCH_LABEL
from ._cross_validation import CHANCE as CHANCE
from ._cross_validation import COMPARATORS as COMPARATORS
from ._cross_validation import OWN_MODELS as OWN_MODELS
from ._cross_validation import PERMUTED as PERMUTED
from ._cross_validation import RE as RE
from ._cross_validation import SEPARATOR as SEPARATOR
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
from ._cross_validation import file_stem as file_stem
from ._cross_validation import model_folder as model_folder
from ._cross_validation import text_rows as text_rows
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


def __dir__() -> list[str]:
    return list(__all__)
