"""The command that writes the counterparts of the paper's figures and tables."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from scmedal_tools._how_to_install import how_to_install

from ._check_header import check_choice
from ._check_published import check_published
from ._console import (
    announce,
    explained,
    fail,
    fail_if_incomplete,
    list_written,
    quiet_worker,
    with_notes,
)
from ._folder import check_evaluation_folder
from ._options import AllSeeds, MaxEpochs, NJobs
from ._paper_data import N_FOLDS, PAPER_DATA

# Optional packages by their modules; statsmodels only for mixed models.
NEEDED_PACKAGES = {"scanorama": "scanorama", "ot": "POT"}
DataSet = Annotated[str, typer.Argument(metavar="aml|asd|heart", help="Data set.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with the published files.")]
Out = Annotated[Path, typer.Option(help="Folder to write to; an interrupted call in it resumes.")]
Folds = Annotated[
    list[int] | None,
    typer.Option(
        metavar="NUMBER ...",
        help="Which of the five folds to run, counted from 0; after the folder. Default: all.",
    ),
]


def reproduce(
    context: typer.Context,
    data_set: DataSet,
    folder: Folder,
    out: Out,
    folds: Folds = None,
    max_epochs: MaxEpochs = None,
    seed: AllSeeds = 0,
    n_jobs: NJobs = 1,
) -> None:
    """Run the analyses of the scMEDAL paper on one of its data sets, as published."""
    check_choice("reproduce", data_set, PAPER_DATA, "data set of the paper")
    chosen = _chosen_folds(folds, context.args)
    path = check_published(data_set, folder)
    check_evaluation_folder(out)
    paper = PAPER_DATA[data_set]
    _check_packages(needs_mixed_models=paper.test is not None and paper.test.method == "lme")
    announce(f"Read {path}")
    with with_notes(), explained():
        from joblib import parallel_config

        from ._report import report_reproduction
        from ._reproduce_job import Reproduction, paper_job, read_published

        job = paper_job(paper, folds=chosen, max_epochs=max_epochs, seed=seed, n_jobs=n_jobs)
        reproduction = Reproduction(read_published(data_set, path), paper, job, out, announce)
        with parallel_config(backend="loky", initializer=quiet_worker):
            reproduction.execute()
        record = reproduction.conclude(input=str(path), data_set=data_set)
        report_reproduction(reproduction, record)
    evaluation = reproduction.evaluation
    list_written(out, evaluation.written)
    announce("\nreport.html lists which file is the counterpart of which figure or table.")
    fail_if_incomplete(evaluation.steps.failures)


def _chosen_folds(folds: list[int] | None, more: list[str]) -> tuple[int, ...] | None:
    """Folds to run: `--folds 0 1` gives the option its first value and leaves the others over."""
    if more and not folds:
        raise typer.BadParameter(f"unexpected arguments: {' '.join(more)}")
    names = [*map(str, folds or ()), *more]
    for name in names:
        check_choice("--folds", name, [str(i) for i in range(N_FOLDS)], "fold")
    return tuple(dict.fromkeys(map(int, names))) or None


def _check_packages(*, needs_mixed_models: bool) -> None:
    """End the command before hours of training if the figures need a package that is missing."""
    needed = NEEDED_PACKAGES | ({"statsmodels": "statsmodels"} if needs_mixed_models else {})
    missing = [name for module, name in needed.items() if find_spec(module) is None]
    if missing:
        fail(f"Not installed: {', '.join(missing)}. {how_to_install('all')}")
