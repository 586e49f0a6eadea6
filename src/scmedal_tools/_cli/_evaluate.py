"""The command that evaluates embeddings by cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ._check_header import SCHEMES, check_batches, check_choice, check_header, check_n_folds
from ._console import (
    announce,
    check_file,
    explained,
    fail_if_incomplete,
    list_written,
    quiet_worker,
    read,
    with_notes,
)
from ._folder import check_evaluation_folder
from ._options import AllSeeds, BatchKey, Input, Layer, MaxEpochs, NJobs, Preset, SizeFactorKey

LabelsKey = Annotated[str, typer.Option(help="Column of obs with cell types.")]
Out = Annotated[
    Path, typer.Option(help="Folder to write to; an interrupted evaluation in it resumes.")
]
TargetKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--target-key", help="Column of obs to predict from the embeddings; may be repeated."
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME ...",
        help="FE, FEC, RE, comparators (pca, ae, harmony, scvi, ...) and names in obsm; "
        "after the file. Default: pca FE RE.",
    ),
]
Scheme = Annotated[
    str, typer.Option(help="What the folds divide: cells, or donors (whole batches).")
]
StratifyKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--stratify-key",
        help="With donors: column that is constant in each donor; every fold contains all of "
        "its values; may be repeated. Default: all such target keys.",
    ),
]
NFolds = Annotated[int, typer.Option(help="Number of folds.")]
Quick = Annotated[bool, typer.Option("--quick", help="Only one of these folds, for a first look.")]
NTopGenes = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Variable genes to select in each fold. Default: 3,000 for raw counts, all for "
        "log-normalised expression.",
    ),
]
Scib = Annotated[
    bool, typer.Option("--scib", help="Add the scores of scib-metrics (in tables/scores.csv).")
]


def evaluate(
    context: typer.Context,
    path: Input,
    batch_key: BatchKey,
    labels_key: LabelsKey,
    out: Out,
    target_keys: TargetKeys = None,
    models: Models = None,
    scheme: Scheme = "cells",
    stratify_keys: StratifyKeys = None,
    n_folds: NFolds = 5,
    quick: Quick = False,
    n_top_genes: NTopGenes = None,
    layer: Layer = None,
    size_factor_key: SizeFactorKey = None,
    preset: Preset = "default",
    max_epochs: MaxEpochs = None,
    scib: Scib = False,
    seed: AllSeeds = 0,
    n_jobs: NJobs = 1,
) -> None:
    """Compare embeddings by cross-validation, with the controls that a claim needs."""
    options = locals()
    # `--models A B`: click gives the option its first value and leaves the others over.
    if context.args and not models:
        raise typer.BadParameter(f"unexpected arguments: {' '.join(context.args)}")
    check_file(path)
    columns = {
        "--batch-key": batch_key,
        "--labels-key": labels_key,
        "--target-key": target_keys,
        "--stratify-key": stratify_keys,
        "--size-factor-key": size_factor_key,
    }
    check_choice("--scheme", scheme, SCHEMES)
    check_n_folds(n_folds, scheme)
    check_header(path, columns, layer, preset, (*(models or ()), *context.args))
    check_batches(path, batch_key)
    check_evaluation_folder(out)
    announce(f"Read {path}")
    with with_notes(), explained():
        from joblib import parallel_config

        from ._evaluate_job import DEFAULT_MODELS, Evaluation, EvaluationJob
        from ._report import report_evaluation

        job = EvaluationJob.of_options(
            options,
            target_keys=tuple(target_keys or ()),
            models=(*(models or DEFAULT_MODELS), *context.args),
            stratify_keys=tuple(stratify_keys) if stratify_keys else None,
            folds=(0,) if quick else None,
            save_models=False,
            more_settings={},
        )
        evaluation = Evaluation(read(path), job, out, announce)
        with parallel_config(backend="loky", initializer=quiet_worker):
            evaluation.execute()
        report_evaluation(evaluation, evaluation.conclude(input=str(path)))
    list_written(out, evaluation.written)
    announce(
        "\nA gain from RE only counts beyond what the batch label alone gives: look at the "
        "controls first."
    )
    fail_if_incomplete(evaluation.steps.failures)
