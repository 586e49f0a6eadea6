"""How mild is the batch penalty of the rebuilt SAUCIE? Its weight, on cells of AML.

python benchmarks/saucie.py run   # writes results/saucie.json
python benchmarks/saucie.py       # prints the table

One fold over cells, which no other benchmark has, and two seeds of the network for each weight.
"""

from __future__ import annotations

import sys
import warnings

import pandas as pd
import torch
from _record import load, markdown, save
from counterfactuals import DATA_SETS, load_cells

import scmedal_tools as smt
from scmedal_tools.pp._preprocess import variable_genes

WEIGHTS = (0.0, 1e-5, 1e-4, 1e-3)
FOLDS_SEED, SEEDS = 10, (0, 1)
N_GENES = 2916
LABELS_KEY = "cell_type"


def run() -> None:
    data_set = DATA_SETS["aml"]
    batch_key = data_set.batch_key
    cells = load_cells(data_set)
    folds = smt.train.cross_validation_folds(cells, batch_key, LABELS_KEY, seed=FOLDS_SEED)
    splits = folds.splits[0]
    chosen = variable_genes(cells[splits[0]], N_GENES, batch_key=batch_key)
    cells = cells[:, chosen].copy()
    results = []
    for weight in WEIGHTS:
        for seed in SEEDS:
            key = smt.ext.saucie(
                cells, batch_key=batch_key, splits=splits, seed=seed, mmd_weight=weight,
                progress=False,
            )  # fmt: skip
            scores = smt.bm.scores(cells, [key], batch_key, LABELS_KEY, indices=splits[2])
            found = scores.set_index(["metric", "of"])["value"]
            predicted, _ = smt.bm.mixing_classifier(
                cells, [key], LABELS_KEY, splits, batch_key=batch_key, random_effects=None
            )
            accuracy = predicted.query("embedding == @key and metric == 'balanced_accuracy'")
            results.append(
                {
                    "mmd_weight": weight,
                    "seed": seed,
                    "ch_batch": round(found["CH", "batch"], 2),
                    "ch_label": round(found["CH", "label"], 2),
                    "cell_type": round(accuracy["value"].item(), 4),
                }
            )
            save("saucie", results, cells=cells.n_obs, genes=cells.n_vars)


def tables() -> dict[str, str]:
    means = pd.DataFrame(load("saucie")["results"]).groupby("mmd_weight").mean()
    columns = {
        "`mmd_weight`": "{mmd_weight:g}",
        "CH, batch": "{ch_batch:.0f}",
        "CH, cell type": "{ch_label:.0f}",
        "balanced accuracy of the cell type": "{cell_type:.2f}",
    }
    return {"weights": markdown(means.reset_index().to_dict("records"), columns)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
    else:
        for text in tables().values():
            print(text)
