"""What embeddings of AML cells tell, with the batch label and other controls beside them.

python benchmarks/evaluation.py run FOLDER          # both schemes; goes on where it stopped
python benchmarks/evaluation.py run FOLDER donors   # one of them
python benchmarks/evaluation.py                     # prints the tables

Saves ``results/evaluation_<scheme>.json``. The folder keeps the embeddings of every fold.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from _record import load, markdown, save
from counterfactuals import DATA_SETS, load_cells

import scmedal_tools as smt

SCHEMES = {"cells": 5, "donors": 3}  # folds; three of the donors are controls
TARGETS = ["patient_group", "cell_type"]
MODELS = {
    "cells": [
        *("pca", "ae", "aec", "aec_batch", "harmony", "scanorama"),
        *("scvi", "scanvi", "saucie", "FE", "FEC", "RE"),
    ],
    "donors": ["pca", "ae", "harmony", "scvi", "FE", "RE"],
}
N_GENES = 2916
# The paper's 500 epochs are too many for two processor cores.
SETTINGS = {"scvi": {"max_epochs": 100}, "scanvi": {"max_epochs": 100}}
KEYS = ["embedding", "of", "metric"]


def run(scheme: str, folder: Path) -> None:
    data_set = DATA_SETS["aml"]
    cells = load_cells(data_set)
    start = time.perf_counter()
    result = smt.bm.cross_validate(
        cells,
        data_set.batch_key,
        "cell_type",
        TARGETS,
        models=MODELS[scheme],
        n_folds=SCHEMES[scheme],
        scheme=scheme,
        n_top_genes=N_GENES,
        settings={name: SETTINGS[name] for name in SETTINGS if name in MODELS[scheme]},
        out=folder / scheme,
    )
    save(
        f"evaluation_{scheme}",
        result.summary().round(5).to_dict("records"),
        seconds=round(time.perf_counter() - start),
        conclusions=result.conclusions,
        votes=result.votes_summary().to_dict("records") if len(result.votes) else [],
        rare_combinations=len(result.rare),
        settings=result.settings,
    )


def tables() -> dict[str, str]:
    made = {"votes": votes(), "conclusions": conclusions()}
    for scheme in SCHEMES:
        made |= {f"{target}_{scheme}": predicted(scheme, target) for target in TARGETS}
        made[f"scores_{scheme}"] = separation(scheme)
    return made


def _summary(scheme: str) -> pd.DataFrame:
    return pd.DataFrame(load(f"evaluation_{scheme}")["results"])


def predicted(scheme: str, target: str) -> str:
    frame = _summary(scheme).query("of == @target")
    rows = [
        {"embedding": name}
        | {row["metric"]: _with_limits(row, 2) for _, row in of_name.iterrows()}
        for name, of_name in frame.groupby("embedding", sort=False)
    ]
    columns = {"embedding": "{embedding}", "balanced accuracy (95%)": "{balanced_accuracy}"}
    return markdown(rows, columns | {"accuracy (95%)": "{accuracy}"})


def separation(scheme: str) -> str:
    frame = _summary(scheme).query("metric == 'ASW'")
    rows = [
        {"embedding": name} | {row["of"]: _with_limits(row, 3) for _, row in of_name.iterrows()}
        for name, of_name in frame.groupby("embedding", sort=False)
    ]
    columns = {"embedding": "{embedding}", "silhouette: batch": "{batch}"}
    columns |= {"batch within label": "{batch within label}", "label": "{label}"}
    return markdown(rows, columns)


def votes() -> str:
    rows = [row for row in load("evaluation_donors")["votes"] if row["of"] == TARGETS[0]]
    return markdown(
        rows,
        {
            "embedding": "{embedding}",
            "donors": "{n_batches}",
            "balanced accuracy of the votes": "{balanced_accuracy:.2f}",
            "p": "{p_value:.3f}",
        },
    )


def conclusions() -> str:
    rows = [
        {"scheme": scheme, "said": sentence}
        for scheme in SCHEMES
        for sentence in load(f"evaluation_{scheme}")["conclusions"].values()
    ]
    return markdown(rows, {"folds over": "{scheme}", "conclusion": "{said}"})


def _with_limits(row: pd.Series, digits: int) -> str:
    mean, low, high = (f"{row[key]:.{digits}f}" for key in ("mean", "lower", "upper"))
    return f"{mean} ({low}, {high})"


if __name__ == "__main__":
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["run"]:
        for chosen in sys.argv[3:] or SCHEMES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run(chosen, Path(sys.argv[2]))
    else:
        for text in tables().values():
            print(text, end="\n\n")
