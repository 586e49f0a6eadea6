"""Cross-validation of embeddings: folds, scores, predictions, controls, tables."""

from ._balance_weights import BalancedWeights, balance_weights
from ._cross_validate import CrossValidation, cross_validate
from ._embedders import COMPARATORS, OWN_MODELS, PERMUTED, RE
from ._mixing_classifier import (
    BATCH_LABEL,
    CHANCE,
    SEPARATOR,
    Mixing,
    mixing_classifier,
    score_votes,
)
from ._paper_tables import paper_tables
from ._parts import model_folder
from ._summarise_folds import summarise_folds
from ._write_tables import file_stem, text_rows, write_tables

__all__ = [
    "BATCH_LABEL",
    "CHANCE",
    "COMPARATORS",
    "OWN_MODELS",
    "PERMUTED",
    "RE",
    "SEPARATOR",
    "BalancedWeights",
    "CrossValidation",
    "Mixing",
    "balance_weights",
    "cross_validate",
    "file_stem",
    "mixing_classifier",
    "model_folder",
    "paper_tables",
    "score_votes",
    "summarise_folds",
    "text_rows",
    "write_tables",
]
