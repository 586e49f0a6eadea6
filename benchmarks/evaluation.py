r"""Predictions from embeddings of AML cells, beside the batch label and other controls.

python benchmarks/evaluation.py run FOLDER          # all of it; goes on where it stopped
python benchmarks/evaluation.py run FOLDER donors   # one of them
python benchmarks/evaluation.py run FOLDER epochs   # only trains, in the first fold over cells
python benchmarks/evaluation.py run FOLDER cells --preset paper-aml --folds 0 \
    --models pca harmony scanorama FE RE
python benchmarks/evaluation.py                     # prints the tables

Saves ``results/evaluation_<scheme>.json``, with ``_<preset>`` behind if it is not the default, or
``_epochs``. The folder keeps the embeddings of every fold; a record has the commit and the seconds
of the last call. The paper's presets train for 500 epochs. With them, what has no preset and takes
long is left out, and if models are named, the controls of RE that are trained too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import torch
from _data_sets import DATA_SETS, load_cells
from _record import load, markdown, save

import scmedal_tools as smt
from scmedal_tools.ext import display_names

SCHEMES = {"cells": 5, "donors": 3}  # folds; three of the donors are controls
TARGETS = ["patient_group", "cell_type"]
MODELS = {
    "cells": [
        *("pca", "ae", "aec", "aec_batch", "harmony", "scanorama"),
        *("scvi", "scanvi", "saucie", "FE", "FEC", "RE"),
    ],
    "donors": ["pca", "ae", "harmony", "scvi", "FE", "RE"],
}
# With a preset of the paper: what it trains, longest first, and what is put beside it.
PRESET_MODELS = {
    "cells": [*("RE", "FE", "FEC", "ae", "aec"), *("pca", "harmony", "scanorama")],
    "donors": ["RE", "FE", "ae", "pca", "harmony"],
}
WITH_PRESET = ("RE", "FE", "FEC", "ae", "aec")
N_GENES = 2916
# The paper's 500 epochs are too many for two processor cores.
SETTINGS = {"scvi": {"max_epochs": 100}, "scanvi": {"max_epochs": 100}}
# What a table has beside each embedding, and the rows below.
ADDED = ("", " + RE", " + RE, permuted labels", " + batch label")
CONTROLS = (
    *("chance", "batch label", "RE, permuted labels", "RE, wrong labels at test"),
    *("RE, one epoch", "RE, own effects in training cells"),
)


def run(
    scheme: str,
    folder: Path,
    preset: str = "default",
    folds: list[int] | None = None,
    models: list[str] | None = None,
    n_jobs: int = 1,
) -> None:
    data_set = DATA_SETS["aml"]
    cells = load_cells(data_set)
    default = preset == "default"
    controls = models is None
    models = models or (MODELS if default else PRESET_MODELS)[scheme]
    settings = SETTINGS if default else {key: {"preset": preset} for key in WITH_PRESET}
    name = f"evaluation_{scheme}" + ("" if default else f"_{preset}")
    start = time.perf_counter()
    result = smt.bm.cross_validate(
        cells,
        data_set.batch_key,
        "cell_type",
        TARGETS,
        models=models,
        n_folds=SCHEMES[scheme],
        scheme=scheme,
        folds=folds,
        n_top_genes=N_GENES,
        settings={name: settings[name] for name in settings if name in models},
        controls=controls,
        n_jobs=n_jobs,
        out=folder / name,
    )
    save(
        name,
        result.summary().round(5).to_dict("records"),
        seconds=round(time.perf_counter() - start),
        conclusions=result.conclusions,
        votes=result.votes_summary().to_dict("records") if len(result.votes) else [],
        rare_combinations=len(result.rare),
        settings=result.settings,
    )


def run_epochs(folder: Path) -> None:
    data_set = DATA_SETS["aml"]
    result = smt.bm.cross_validate(
        load_cells(data_set),
        data_set.batch_key,
        "cell_type",
        models=[name for name in MODELS["cells"] if name not in {"pca", *smt.ext.JOINT}],
        folds=[0],
        n_top_genes=N_GENES,
        settings=SETTINGS,
        controls=False,
        out=folder / "epochs",
    )
    save("evaluation_epochs", result.epochs[["embedding", "epochs"]].to_dict("records"))


def tables() -> dict[str, str]:
    made = {"votes": votes(), "conclusions": conclusions(), "epochs": epochs()}
    for scheme in SCHEMES:
        for target in TARGETS:
            made[f"{target}_{scheme}"] = predicted(scheme, target)
            made[f"{target}_{scheme}_controls"] = controls(scheme, target)
        made[f"scores_{scheme}"] = separation(scheme)
    return {name: display_names(table) for name, table in made.items()}


def epochs() -> str:
    """Epochs that each network was trained for."""
    columns = {"embedding": "{embedding}", "epochs": "{epochs}"}
    return markdown(load("evaluation_epochs")["results"], columns)


def _summary(scheme: str) -> pd.DataFrame:
    return pd.DataFrame(load(f"evaluation_{scheme}")["results"])


def _compared(scheme: str) -> list[str]:
    models = load(f"evaluation_{scheme}")["settings"]["models"]
    return [name for name in models if name not in CONTROLS]


def _accuracies(scheme: str, target: str) -> dict[str, str]:
    rows = _summary(scheme).query("of == @target and metric == 'balanced_accuracy'")
    return {row["embedding"]: _with_limits(row, 2) for _, row in rows.iterrows()}


def predicted(scheme: str, target: str) -> str:
    """Every embedding alone, and with each of what is put beside it."""
    return _beside(_accuracies(scheme, target), _compared(scheme), ADDED)


def controls(scheme: str, target: str) -> str:
    accuracies = _accuracies(scheme, target)
    rows = [{"name": n, "value": accuracies[n]} for n in CONTROLS if n in accuracies]
    return markdown(rows, {"": "{name}", "balanced accuracy (95%)": "{value}"})


def votes() -> str:
    of_target = [row for row in load("evaluation_donors")["votes"] if row["of"] == TARGETS[0]]
    text = "{balanced_accuracy:.2f} ({p_value:.2f})"
    values = {row["embedding"]: text.format(**row) for row in of_target}
    return _beside(values, _compared("donors"), ADDED[:3])


def _beside(values: dict[str, str], models: list[str], added: tuple[str, ...]) -> str:
    """Table with a row for each embedding and a column for each of what is put beside it."""
    titles = [title.strip() or "alone" for title in added]
    rows = [
        {"embedding": name}
        | {t: values.get(name + a, "") for t, a in zip(titles, added, strict=True)}
        for name in models
    ]
    return markdown(rows, {title: f"{{{title}}}" for title in ["embedding", *titles]})


def separation(scheme: str) -> str:
    frame = _summary(scheme).query("metric == 'ASW'")
    rows = [
        {"embedding": name} | {row["of"]: _with_limits(row, 3) for _, row in of_name.iterrows()}
        for name, of_name in frame.groupby("embedding", sort=False)
    ]
    columns = {"embedding": "{embedding}", "silhouette: batch": "{batch}"}
    columns |= {"batch within label": "{batch within label}", "label": "{label}"}
    return markdown(rows, columns)


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


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("do", nargs="?", choices=["run", "print"], default="print")
    parser.add_argument("folder", nargs="?", type=Path, help="where the embeddings are kept")
    parser.add_argument("what", nargs="*", help="of cells, donors, epochs; by default all")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--folds", nargs="+", type=int, help="by default all")
    parser.add_argument("--models", nargs="+", help="by default all, with controls of RE")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="parts side by side")
    asked = parser.parse_args(arguments)
    if asked.do == "print":
        print("\n\n".join(tables().values()))
        return
    for what in asked.what or [*SCHEMES, "epochs"]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if what == "epochs":
                run_epochs(asked.folder)
            else:
                run(what, asked.folder, asked.preset, asked.folds, asked.models, asked.jobs)


if __name__ == "__main__":
    smt.train.quiet()
    torch.set_num_threads(1)
    main(sys.argv[1:])
