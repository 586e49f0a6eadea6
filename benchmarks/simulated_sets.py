"""Predicted shifts and their intervals on fifty simulated data sets, and of five seeds on one.

python benchmarks/simulated_sets.py run   # writes results/simulated_sets.json
python benchmarks/simulated_sets.py       # prints the tables

Each set has donors, cells and effects of its own; RE is trained once, with its default preset.
Scores are of the mean shifts of cell types from every donor to every other. Sets that are saved
are not run again.
"""

from __future__ import annotations

import logging
import sys
import warnings

import numpy as np
import pandas as pd
import scvi
import torch
from _intervals import mixed_model_intervals, of_strata, predicted_shifts
from _record import load, markdown, save, saved

import scmedal_tools as smt

SIMULATED = {"n_donors": 6, "n_genes": 300, "cell_scale": 0.5}
SETS = [(i, 0) for i in range(50)]
SEEDS = [(0, seed) for seed in range(5)]
METHODS = {"RE": "RE", "mixed model": "mixed model (given cell types)"}
STRATA = ("all", "smallest third", "middle third", "largest third")


def measure(data: int, seed: int) -> dict:
    adata = smt.datasets.simulated(**SIMULATED, seed=data)
    smt.pp.preprocess(adata, batch_key="donor", n_top_genes=None)
    scvi.settings.seed = seed
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key="donor")
    model = smt.model.SCMEDAL_RE(adata)
    model.train(enable_progress_bar=False)
    shifts = predicted_shifts(model, adata)
    truth = np.stack(
        [
            smt.datasets.true_shift(adata, row.cell_type, row.source, row.target)
            for row in shifts.obs.itertuples()
        ]
    )
    lower, upper = mixed_model_intervals(adata, shifts.obs)
    predicted = {
        "RE": (shifts.X, shifts.layers["lower"], shifts.layers["upper"]),
        "mixed model": ((lower + upper) / 2, lower, upper),
    }
    return {
        "n_cells": adata.n_obs,
        "methods": {
            method: scores(truth, mean) | {"intervals": of_strata(truth, *limits)}
            for method, (mean, *limits) in predicted.items()
        },
    }


def scores(truth: np.ndarray, predicted: np.ndarray) -> dict:
    correlations = [np.corrcoef(*pair)[0, 1] for pair in zip(predicted, truth, strict=True)]
    error = np.square(predicted - truth).sum() / np.square(truth).sum()
    return {"correlation": float(np.median(correlations)), "error": float(error)}


def run() -> None:
    results = saved("simulated_sets")
    for data, seed in dict.fromkeys(SETS + SEEDS):
        key = {"data": data, "seed": seed}
        if not any(key.items() <= row.items() for row in results):
            results.append(key | measure(data, seed))
            save("simulated_sets", results, simulated=SIMULATED)
            print(key, flush=True)


def tables() -> dict[str, str]:
    results = load("simulated_sets")["results"]
    rows, scored = [], []
    for title, cases in ((f"{len(SETS)} sets", SETS), (f"{len(SEEDS)} seeds on one", SEEDS)):
        of = [row["methods"] for row in results if (row["data"], row["seed"]) in cases]
        scored += winkler_rows(title, of)
        for method, name in METHODS.items():
            line = {"case": title, "method": name}
            for score in ("correlation", "error"):
                line[score] = span([row[method][score] for row in of])
            intervals = pd.DataFrame(found for row in of for found in row[method]["intervals"])
            for stratum in STRATA:
                line[stratum] = span(intervals.loc[intervals["stratum"] == stratum, "coverage"])
            rows.append(line)
    columns = {"": "{case}: {method}", "correlation": "{correlation}", "error": "{error}"}
    columns |= {f"coverage, {stratum}": f"{{{stratum}}}" for stratum in STRATA}
    of_winkler = {"": "{case}", "shifts": "{stratum}"}
    of_winkler |= {name: f"{{{method}}}" for method, name in METHODS.items()}
    of_winkler["RE's is lower"] = "{lower} of {n}"
    return {"coverage": markdown(rows, columns), "winkler": markdown(scored, of_winkler)}


def winkler_rows(title: str, of: list[dict]) -> list[dict]:
    """Winkler scores of a stratum of the shifts, and in how many cases RE has the better one."""
    rows = []
    for stratum in STRATA:
        scores = {
            method: np.array(
                [
                    found["winkler"]
                    for row in of
                    for found in row[method]["intervals"]
                    if found["stratum"] == stratum
                ]
            )
            for method in METHODS
        }
        lower = int((scores["RE"] < scores["mixed model"]).sum())
        line = {"case": title, "stratum": stratum, "lower": lower, "n": len(of)}
        rows.append(line | {method: span(values) for method, values in scores.items()})
    return rows


def span(values) -> str:
    """Median, and what 5% are below and above; of a few, the least and the largest."""
    tail = 0.05 if len(values) >= 20 else 0.0
    low, middle, high = np.quantile(values, [tail, 0.5, 1 - tail])
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        torch.set_num_threads(1)
        run()
    for title, table in tables().items():
        print(f"{title}\n{table}\n")
