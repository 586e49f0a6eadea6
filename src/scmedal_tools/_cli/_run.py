"""The command that trains both networks on a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ._check_header import check_batches, check_header, check_reference
from ._console import (
    announce,
    check_file,
    explained,
    fail,
    fail_if_incomplete,
    list_written,
    read,
    with_notes,
)
from ._folder import check_folder, written_by
from ._options import (
    BatchKey,
    Input,
    Layer,
    MaxEpochs,
    Out,
    Overwrite,
    Preset,
    Seed,
    SizeFactorKey,
)

if TYPE_CHECKING:
    from pathlib import Path

LabelsKey = Annotated[
    str | None,
    typer.Option(help="Column of obs with cell types, from which the fixed effects also learn."),
]
ConditionKey = Annotated[
    str | None,
    typer.Option(
        help="Column of obs with a condition of the batches (donors): the report says whether "
        "it is confounded, and which genes differ, with batches as replicates."
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        help="Group of --condition-key with which the others are compared. Default: the first "
        "category; of text the first in alphabetical order, of numbers the smallest."
    ),
]
TransformBatch = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME ...",
        help="Target batches of counterfactuals: predict the mean expression of every batch "
        "as if its cells came from these. Write them after the file.",
    ),
]
NTopGenes = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Variable genes to select from raw counts. Default: 3,000, or the paper's.",
    ),
]


def run(
    context: typer.Context,
    path: Input,
    batch_key: BatchKey,
    out: Out,
    labels_key: LabelsKey = None,
    condition_key: ConditionKey = None,
    reference: Reference = None,
    transform_batch: TransformBatch = None,
    n_top_genes: NTopGenes = None,
    layer: Layer = None,
    size_factor_key: SizeFactorKey = None,
    preset: Preset = "default",
    max_epochs: MaxEpochs = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train both networks on an h5ad file and write embeddings, models and figures."""
    # `--transform-batch A B`: click gives the option its first value and leaves the others over.
    if context.args and not transform_batch:
        raise typer.BadParameter(f"unexpected arguments: {' '.join(context.args)}")
    check_file(path)
    check_folder(out, overwrite)
    if path.resolve().is_relative_to(out.resolve()):
        fail(f"{path} lies in the folder of the results, {out}. Choose another --out.")
    columns = {
        "--batch-key": batch_key,
        "--labels-key": labels_key,
        "--condition-key": condition_key,
        "--size-factor-key": size_factor_key,
    }
    targets = (*(transform_batch or ()), *context.args)
    check_header(path, columns, layer, preset)
    check_batches(path, batch_key, targets)
    check_reference(path, condition_key, reference)
    announce(f"Read {path}")
    with with_notes(), explained():
        from ._report import report_run
        from ._run_job import Run, RunJob

        job = RunJob(
            batch_key=batch_key,
            labels_key=labels_key,
            condition_key=condition_key,
            reference=reference,
            n_top_genes=n_top_genes,
            layer=layer,
            size_factor_key=size_factor_key,
            preset=preset,
            transform_batch=targets,
            max_epochs=max_epochs,
            seed=seed,
        )
        job_run = Run(read(path), job, out, announce, overwrite)
        job_run.execute()
        report_run(job_run, job_run.conclude(input=str(path)))
    announce_results(out)
    fail_if_incomplete(job_run.steps.failures)


def announce_results(out: Path) -> None:
    """Show what a run has written, and how to read it."""
    written = written_by(out)
    list_written(out, written)
    announce(
        "\nOpen report.html first. Fixed effects: batches should mix, cell types stay separate.\n"
        "Random effects: what each batch does. Then the loss curves: have they settled?"
    )
    if "counterfactual_means.h5ad" not in written:
        announce(
            "\nFor counterfactuals, name target batches with --transform-batch, "
            "or load models/re in Python."
        )
