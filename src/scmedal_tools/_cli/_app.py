"""Mixed-effects autoencoders for single-cell data: batch correction and batch effects."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import (
    announce,
    check_file,
    console,
    explained,
    fail,
    fail_if_incomplete,
    list_written,
    read,
    with_notes,
)
from ._evaluate import evaluate
from ._folder import check_folder, written_by
from ._header import check_batches, check_header
from ._options import BatchKey, Input, Layer, MaxEpochs, Preset, SizeFactorKey
from ._reproduce import reproduce

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[
    Path, typer.Option(help="Folder to write the results to; an interrupted run in it resumes.")
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the results of an earlier run in that folder; train again."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"scmedal-tools {version('scmedal-tools')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Mixed-effects autoencoders for single-cell data: batch correction and batch effects."""


@app.command(context_settings={"allow_extra_args": True})
def run(
    context: typer.Context,
    path: Input,
    batch_key: BatchKey,
    out: Out,
    labels_key: Annotated[
        str | None,
        typer.Option(
            help="Column of obs with cell types, from which the fixed effects also learn."
        ),
    ] = None,
    condition_key: Annotated[
        str | None,
        typer.Option(
            help="Column of obs with a condition of the batches (donors): the report says whether "
            "it is confounded, and which genes differ, with batches as replicates."
        ),
    ] = None,
    transform_batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME ...",
            help="Target batches of counterfactuals: predict the mean expression of every batch "
            "as if its cells came from these. Write them after the file.",
        ),
    ] = None,
    n_top_genes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Variable genes to select from raw counts. Default: 3,000, or the paper's.",
        ),
    ] = None,
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
    announce(f"Read {path}")
    with with_notes(), explained():
        from ._job import Job
        from ._report import report_run
        from ._run import Run

        job = Job(
            batch_key=batch_key,
            labels_key=labels_key,
            condition_key=condition_key,
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
    _conclude(out)
    fail_if_incomplete(job_run.steps.failures)


app.command(context_settings={"allow_extra_args": True})(evaluate)
app.command(context_settings={"allow_extra_args": True})(reproduce)


@app.command()
def demo(
    out: Out = Path("scmedal_demo"),
    max_epochs: MaxEpochs = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Do the same on simulated donors, and compare the predicted effects with the true ones."""
    check_folder(out, overwrite)
    announce("Simulate donors with known effects on each gene")
    with with_notes(), explained():
        from scmedal_tools import bm, datasets
        from scmedal_tools._data import write_csv

        from ._draw_true_shifts import draw_true_shifts
        from ._job import Job
        from ._report import report_run
        from ._run import Run
        from ._save_figure import save_figure

        job = Job(
            "donor", "cell_type", transform_batch=("donor_01",), max_epochs=max_epochs, seed=seed
        )
        job_run = Run(datasets.simulated(seed=seed), job, out, announce, overwrite)
        job_run.execute()
        announce("Compare with the truth")
        recovery = bm.effect_recovery(job_run.models["re"], job_run.adata)
        write_csv(out / "effect_recovery.csv", recovery, index=False)
        with job_run.steps.attempt("figures/true_shifts.png"):
            file = job_run.figures / "true_shifts.png"
            save_figure(file, draw_true_shifts, job_run.means, job_run.adata)
        medians = recovery.groupby("method").median(numeric_only=True).sort_values("correlation")
        found = {"effect_recovery": medians.T.to_dict()}
        report_run(job_run, job_run.conclude(input="datasets.simulated", **found))
    _conclude(out)
    _show_recovery(medians, len(recovery) // len(medians))
    fail_if_incomplete(job_run.steps.failures)


def _conclude(out: Path) -> None:
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


def _show_recovery(medians: pd.DataFrame, n_effects: int) -> None:
    from rich.table import Table

    table = Table(
        "estimated by",
        title=f"\nEffect of moving a cell type to another donor, medians of {n_effects} cases",
        caption="correlation with the truth over genes, slope (1 is calibrated),\n"
        "squared error relative to the true effect; additive is the difference of\n"
        "the donors' means, least squares is fitted on donor and cell type",
    )
    for metric in medians:
        table.add_column(metric.replace("_", " "), justify="right")
    for method, row in medians.iterrows():
        table.add_row(str(method), *(f"{value:.2f}" for value in row))
    console.print(table)
