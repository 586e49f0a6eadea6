"""Which part of the paper's settings makes a network behave as there: one thing varied at a time.

python benchmarks/paper_variations.py run   # goes on where it stopped
python benchmarks/paper_variations.py       # prints the table

The first of the five folds over cells of AML that ``evaluation.py`` has. Saves
``results/paper_variations.json`` after every training.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from _aml_fold import BATCH_KEY, Fold, first_fold, judged
from _record import load, markdown, save, saved

import scmedal_tools as smt
from scmedal_tools.ext import random_state, train

if TYPE_CHECKING:
    import numpy as np

PRESET = "paper-aml"
EPOCHS = 34  # as many as the default's, of the paper's 500
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
    Variation("RE", "100 epochs", {}, epochs=100),
    Variation("RE", "no classifier of the batch on the latent", {"batch_weight": 0.0}),
    Variation("RE", "no effects in the outer hidden layers", {"deep_effects": False}),
    Variation("RE", "linear latent", {"latent_activation": "linear"}),
    Variation("RE", "layer instead of batch normalisation", {"normalization": "layer"}),
    Variation("FE", "the paper's preset", {}),
    Variation("FE", "100 epochs", {}, epochs=100),
    Variation("FE", "no adversary", {"adversary_weight": 0.0}),
)


def run() -> None:
    """Train and score what is not saved yet."""
    fold = first_fold()
    results = saved("paper_variations")
    done = {(row["model"], row["title"]) for row in results}
    for variation in VARIATIONS:
        if (variation.model, variation.title) in done:
            continue
        start = time.perf_counter()
        fold.cells.obsm["X"] = fitted(variation, fold)
        seconds = round(time.perf_counter() - start)
        row = {"model": variation.model, "title": variation.title, "seconds": seconds}
        results.append(row | judged(fold, "X"))
        save("paper_variations", results, epochs=EPOCHS)
        print(results[-1], flush=True)


def fitted(variation: Variation, fold: Fold) -> np.ndarray:
    """Latent of all cells."""
    cls = MODELS[variation.model]
    settings = {"preset": PRESET} | variation.settings
    cls.setup_anndata(fold.cells, batch_key=BATCH_KEY)
    with random_state(0):
        model = cls(fold.cells, **settings)
        train(model, fold.splits, progress=False, max_epochs=variation.epochs)
    return model.get_latent_representation()


def tables() -> dict[str, str]:
    columns = {"model": "{model}", "settings": "{title}"}
    columns |= {
        f"{index}, {name}": f"{{{index} {of}:{digits}}}"
        for of, name in (("batch", "batches"), ("label", "types"))
        for index, digits in (("ASW", ".2f"), ("1/DB", ".2f"), ("CH", ".0f"))
    }
    columns |= {"patient group": "{patient_group:.2f}", "cell type": "{cell_type:.2f}"}
    found = {(row["model"], row["title"]): row for row in load("paper_variations")["results"]}
    rows = [found[variation.model, variation.title] for variation in VARIATIONS]
    return {"variations": markdown(rows, columns)}


if __name__ == "__main__":
    smt.train.quiet()
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
    else:
        for text in tables().values():
            print(text)
