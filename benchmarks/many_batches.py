"""RE with 1,000 batches: what it costs beside 20, and whether effects may move together.

python benchmarks/many_batches.py run   # writes results/many_batches.json
python benchmarks/many_batches.py       # prints the table

Simulated cells of six types; batches have known log-fold changes in half of the genes. With more
batches than cells in a minibatch the effects move once in several minibatches
(``RETrainingPlan``); beside it they move at every one. Times are of the processor, for a training
with its finishing, and for the table of all effects.
"""

from __future__ import annotations

import sys
import time
from unittest.mock import patch

import anndata as ad
import numpy as np
import pandas as pd
import scvi
import torch
from _record import SOURCE, load, markdown, save, saved
from scipy import sparse

import scmedal_tools as smt
from scmedal_tools.train import _re_plan

N_CELLS, N_GENES, N_TYPES, N_EPOCHS, N_TARGETS, N_SOURCES = 8_000, 400, 6, 15, 50, 200
SEEDS = (0, 1)
TOGETHER, EVERY = "moved together", "moved at every minibatch"
CASES = ((20, TOGETHER), (1_000, TOGETHER), (1_000, EVERY))


def cells(n_batch: int) -> tuple[ad.AnnData, np.ndarray]:
    """Log-normalised cells, and the log-fold changes of the batches."""
    rng = np.random.default_rng(0)
    types, batch = rng.integers(0, N_TYPES, N_CELLS), np.arange(N_CELLS) % n_batch
    changes = rng.normal(0, 0.5, (n_batch, N_GENES)) * (rng.random(N_GENES) < 0.5)
    rates = rng.gamma(0.5, 6, (N_TYPES, N_GENES))[types] * np.exp(changes[batch])
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rates).astype(np.float32)))
    adata.obs["batch"] = batch.astype(str)
    smt.pp.preprocess(adata, batch_key="batch", n_top_genes=None, min_genes=1, min_cells=1)
    return adata, changes


def measure(n_batch: int, effects: str, seed: int) -> dict:
    adata, changes = cells(n_batch)
    scvi.settings.seed = seed
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="batch")
    model = smt.model.SCMEDAL_RE(adata)
    most = 1 if effects == EVERY else _re_plan.MAX_MINIBATCHES_PER_MOVE
    start = time.process_time()
    with patch.object(_re_plan, "MAX_MINIBATCHES_PER_MOVE", most):
        model.train(max_epochs=N_EPOCHS, enable_progress_bar=False)
    seconds = time.process_time() - start
    start = time.process_time()
    model.get_batch_effects()
    of_effects = time.process_time() - start
    test = model.validation_indices
    measured, train = adata.X[test].toarray(), adata.X[model.train_indices]
    missed = measured - model.get_reconstruction(indices=test, return_numpy=True)
    around = measured - np.asarray(train.mean(0))
    targets = np.linspace(0, n_batch, min(n_batch, N_TARGETS), endpoint=False, dtype=int)
    shifts = model.get_counterfactual_expression(
        indices=test[:N_SOURCES], transform_batch=[str(k) for k in targets], return_numpy=True
    )
    means = np.stack([shift.mean(0) for shift in shifts.values()])
    found, true = means - means.mean(0), changes[targets] - changes[targets].mean(0)
    return {
        "seconds": seconds,
        "seconds_of_effects": of_effects,
        "variance": float(1 - np.square(missed).sum() / np.square(around).sum()),
        "swap_gap": model.get_swap_gap(indices=test),
        "correlation": float(np.corrcoef(found.ravel(), true.ravel())[0, 1]),
    }


def run() -> None:
    results = saved("many_batches")
    for seed in SEEDS:
        for n_batch, effects in CASES:
            key = {"batches": n_batch, "effects": effects, "seed": seed}
            if not any(key.items() <= row.items() for row in results):
                row = key | {"commit": SOURCE["commit"]} | measure(n_batch, effects, seed)
                results.append(row)
                save("many_batches", results)
                print(row, flush=True)


def tables() -> dict[str, str]:
    """Means over the seeds; times beside those of 20 batches."""
    rows = pd.DataFrame(load("many_batches")["results"])
    first = rows[rows["batches"] == CASES[0][0]].set_index("seed")["seconds"]
    # The rule of RETrainingPlan, for minibatches of 256 cells.
    most = np.where(rows["effects"] == EVERY, 1, _re_plan.MAX_MINIBATCHES_PER_MOVE)
    rows["minibatches"] = np.minimum(np.ceil(rows["batches"] / 256), most).astype(int)
    rows["ratio"] = rows["seconds"] / rows["seed"].map(first)
    means = rows.groupby(["batches", "minibatches"], sort=False).mean(numeric_only=True)
    columns = {
        "batches": "{batches:,}",
        "minibatches per move": "{minibatches}",
        "processor time": "{ratio:.2f}",
        "seconds of `get_batch_effects`": "{seconds_of_effects:.1f}",
        "variance explained": "{variance:.3f}",
        "swap gap": "{swap_gap:.3f}",
        "correlation of shifts with the truth": "{correlation:.3f}",
    }
    return {"training": markdown(means.reset_index().to_dict("records"), columns)}


if __name__ == "__main__":
    smt.train.quiet()
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        run()
    print(tables()["training"])
