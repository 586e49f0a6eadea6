"""One fold over cells of AML, with its genes, and how an embedding of it is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from _data_sets import DATA_SETS, load_cells

import scmedal_tools as smt

if TYPE_CHECKING:
    import anndata as ad
    import numpy as np

BATCH_KEY, LABELS_KEY = DATA_SETS["aml"].batch_key, "cell_type"
TARGETS = ("patient_group", LABELS_KEY)
N_GENES = 2916


class Fold(NamedTuple):
    """Cells, and positions of the training, validation and test cells."""

    cells: ad.AnnData
    splits: tuple[np.ndarray, ...]


def first_fold(seed: int = 0) -> Fold:
    """First of five folds; seed 0 gives those of ``evaluation.py``."""
    cells = load_cells(DATA_SETS["aml"])
    folds = smt.train.cross_validation_folds(cells, BATCH_KEY, LABELS_KEY, seed=seed)
    splits = folds.splits[0]
    chosen = smt.pp.variable_genes(cells[splits[0]], N_GENES, batch_key=BATCH_KEY)
    return Fold(cells[:, chosen].copy(), splits)


def judged(fold: Fold, key: str) -> dict[str, float]:
    """Separation of batches and types in the test cells, and what a forest predicts of them."""
    cells, splits = fold
    scores = smt.bm.scores(cells, [key], BATCH_KEY, LABELS_KEY, indices=splits[2])
    found = {
        f"{row['metric']} {row['of']}": round(row["value"], 4) for _, row in scores.iterrows()
    }
    for target in TARGETS:
        mixing, _ = smt.bm.mixing_classifier(
            cells, [key], target, splits, batch_key=BATCH_KEY, random_effects=None
        )
        rows = mixing.query("embedding == @key and metric == 'balanced_accuracy'")
        found[target] = round(rows["value"].item(), 4)
    return found
