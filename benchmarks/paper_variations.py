"""Which part of the paper's settings makes a network behave as there: one thing varied at a time.

python benchmarks/paper_variations.py run   # goes on where it stopped
python benchmarks/paper_variations.py       # prints the table

The first of the five folds over cells of AML that ``evaluation.py`` has. Saves
``results/paper_variations.json`` after every training.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import Any, NamedTuple

import torch
from _record import load, markdown, save, saved
from counterfactuals import DATA_SETS, load_cells
from evaluation import N_GENES, TARGETS

import scmedal_tools as smt
from scmedal_tools.ext import random_state, train

PRESET = "paper-aml"
EPOCHS = 100  # of the paper's 500
LABELS_KEY = "cell_type"
MODELS = {"FE": smt.model.SCMEDAL_FE, "RE": smt.model.SCMEDAL_RE}


class Variation(NamedTuple):
    """What differs from the paper's preset with fewer epochs."""

    model: str
    title: str
    settings: dict[str, Any]
    epochs: int = EPOCHS


VARIATIONS = (
    Variation("RE", "the paper's preset", {}),
    Variation("RE", "1 epoch", {}, epochs=1),
    Variation("RE", "34 epochs, as many as the default's", {}, epochs=34),
    Variation("RE", "no classifier of the batch on the latent", {"batch_weight": 0.0}),
    Variation("RE", "linear latent", {"latent_activation": "linear"}),
    Variation("RE", "effects in the layer of the genes only", {"deep_effects": False}),
    Variation("RE", "layer instead of batch normalisation", {"normalization": "layer"}),
    Variation("RE", "the default preset", {"preset": "default"}),
    Variation("FE", "the paper's preset", {}),
    Variation("FE", "no adversary", {"adversary_weight": 0.0}),
    Variation("FE", "the default preset", {"preset": "default"}),
)


def run() -> None:
    """Train and score what is not saved yet."""
    batch_key, cells, splits = fold()
    results = saved("paper_variations")
    done = {(row["model"], row["title"]) for row in results}
    for variation in VARIATIONS:
        if (variation.model, variation.title) in done:
            continue
        start = time.perf_counter()
        cells.obsm["X"] = fitted(variation, cells, batch_key, splits)
        seconds = round(time.perf_counter() - start)
        row = {"model": variation.model, "title": variation.title, "seconds": seconds}
        results.append(row | judged(cells, batch_key, splits))
        save("paper_variations", results, epochs=EPOCHS)
        print(results[-1], flush=True)


def fold():
    """Batch key, cells with the genes of the first fold, and its split."""
    data_set = DATA_SETS["aml"]
    cells, batch_key = load_cells(data_set), data_set.batch_key
    splits = smt.train.cross_validation_folds(cells, batch_key, LABELS_KEY).splits[0]
    chosen = smt.pp.variable_genes(cells[splits[0]], N_GENES, batch_key=batch_key)
    return batch_key, cells[:, chosen].copy(), splits


def fitted(variation: Variation, cells, batch_key: str, splits):
    """Latent of all cells."""
    cls = MODELS[variation.model]
    settings = {"preset": PRESET} | variation.settings
    epochs = None if settings["preset"] == "default" else variation.epochs
    cls.setup_anndata(cells, batch_key=batch_key)
    with random_state(0):
        model = cls(cells, **settings)
        train(model, splits, progress=False, max_epochs=epochs)
    return model.get_latent_representation()


def judged(cells, batch_key: str, splits) -> dict[str, float]:
    """Separation of batches and types in the test cells, and what a forest predicts of them."""
    scores = smt.bm.scores(cells, ["X"], batch_key, LABELS_KEY, indices=splits[2])
    found = {
        f"{row['metric']} {row['of']}": round(row["value"], 4) for _, row in scores.iterrows()
    }
    for target in TARGETS:
        mixing, _ = smt.bm.mixing_classifier(
            cells, ["X"], target, splits, batch_key=batch_key, random_effects=None
        )
        rows = mixing.query("embedding == 'X' and metric == 'balanced_accuracy'")
        found[target] = round(rows["value"].item(), 4)
    return found


def tables() -> dict[str, str]:
    columns = {
        "model": "{model}",
        "settings": "{title}",
        "ASW of batches": "{ASW batch:.2f}",
        "1/DB of batches": "{1/DB batch:.2f}",
        "1/DB of types": "{1/DB label:.2f}",
        "patient group": "{patient_group:.2f}",
        "cell type": "{cell_type:.2f}",
    }
    return {"variations": markdown(load("paper_variations")["results"], columns)}


if __name__ == "__main__":
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
    else:
        for text in tables().values():
            print(text)
