"""Command line: ``scmedal run`` and ``scmedal demo``."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Console()

Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that has files.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
MaxEpochs = Annotated[int | None, typer.Option(help="Largest number of epochs of each network.")]
Preset = Annotated[
    str, typer.Option(help="default, paper (as for AML), paper-aml, paper-asd or paper-heart.")
]


@app.command(context_settings={"allow_extra_args": True})
def run(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="INPUT.h5ad", help="Cells with raw or log-normalised counts.")
    ],
    batch_key: Annotated[str, typer.Option(help="Column of obs with the batch of each cell.")],
    out: Out,
    labels_key: Annotated[
        str | None, typer.Option(help="Column of obs with cell types; trains FEC, not FE.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer to use instead of X.")] = None,
    size_factor_key: Annotated[
        str | None, typer.Option(help="Column of obs with each cell's total count over all genes.")
    ] = None,
    preset: Preset = "default",
    transform_batch: Annotated[
        list[str] | None,
        typer.Option(help="Batches to predict expression for, one or several names."),
    ] = None,
    max_epochs: MaxEpochs = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train both networks on an h5ad file and write embeddings, models and figures."""
    from ._pipeline import Job, Run

    # `--transform-batch A B`: click gives the option its first value and leaves the others over.
    if context.args and not transform_batch:
        raise typer.BadParameter(f"unexpected arguments {context.args}")
    if not path.is_file():
        raise typer.BadParameter(f"{path} does not exist")
    _prepare(out, overwrite)
    job = Job(
        batch_key=batch_key,
        labels_key=labels_key,
        layer=layer,
        size_factor_key=size_factor_key,
        preset=preset,
        transform_batch=(*(transform_batch or ()), *context.args),
        max_epochs=max_epochs,
        seed=seed,
    )
    with _quiet(), _explained():
        import anndata

        job_run = Run(anndata.read_h5ad(path), job, out, announce=_announce)
        job_run.execute()
        job_run.write_record(input=str(path))
    _conclude(out)


@app.command()
def demo(
    out: Out = Path("scmedal_demo"),
    max_epochs: MaxEpochs = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Do the same on simulated donors, and compare the counterfactuals with the known truth."""
    from ._pipeline import Job, Run

    _prepare(out, overwrite)
    job = Job("donor", "cell_type", transform_batch=("donor_01",), max_epochs=max_epochs, seed=seed)
    with _quiet(), _explained():
        from . import bm, datasets

        _announce("Simulate 12 donors with known effects")
        job_run = Run(datasets.simulated(seed=seed), job, out, announce=_announce)
        job_run.execute()
        _announce("Compare with the truth")
        recovery = bm.effect_recovery(job_run.models["re"], job_run.adata)
        recovery.to_csv(out / "effect_recovery.csv", index=False)
        medians = recovery.groupby("method").median(numeric_only=True)
        job_run.write_record(input="datasets.simulated", effect_recovery=medians.T.to_dict())
    _conclude(out)
    console.print(_recovery_table(medians, len(recovery) // len(medians)))


def _recovery_table(medians: pd.DataFrame, n_effects: int) -> Table:
    table = Table(
        title=f"Recovery of the true donor effects: medians over {n_effects} (cell type, donor A, "
        "donor B)"
    )
    table.add_column("estimate of the effect")
    for column in ("correlation with the truth", "slope (1 is calibrated)", "relative error"):
        table.add_column(column, justify="right")
    for method, row in medians.sort_values("correlation").iterrows():
        table.add_row(str(method), *(f"{value:.2f}" for value in row))
    return table


def _announce(line: str) -> None:
    console.print(line if line.startswith(" ") else f"[bold]{line}[/bold]", highlight=False)


def _prepare(out: Path, overwrite: bool) -> None:
    """Make the folder; a folder with files is refused unless the user insists."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not overwrite:
        console.print(
            f"[red]{out} exists and is not empty.[/red] Choose another --out, or pass --overwrite "
            "to replace the files of an earlier run in it."
        )
        raise typer.Exit(1)
    out.mkdir(parents=True, exist_ok=True)


def _conclude(out: Path) -> None:
    files = sorted(p for p in out.rglob("*") if p.is_file())
    console.print(f"\n[bold]Written to {out}[/bold]")
    for path in files:
        console.print(f"  {path.relative_to(out)}", highlight=False)
    console.print(
        f"\nOpen [bold]{out / 'figures' / 'embeddings.png'}[/bold] first: PCA beside the fixed and "
        "the random effects.\nThen figures/training_*.png: has every term of the loss settled?"
    )


class _explained:  # noqa: N801
    """Show a refusal as one message instead of a traceback."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, ValueError | KeyError | OSError):
            message = error.args[0] if error.args else kind.__name__
            console.print(f"[red]{kind.__name__}:[/red] {message}", highlight=False)
            raise typer.Exit(1) from error


class _quiet(warnings.catch_warnings):  # noqa: N801
    """Leave progress bars and our own messages, hide the chatter of the libraries."""

    def __enter__(self):
        super().__enter__()
        warnings.filterwarnings("ignore", module=r"(lightning|torch|anndata|scanpy|umap|scvi)\b")
        for name in ("lightning.pytorch", "lightning.fabric", "scvi"):
            logging.getLogger(name).setLevel(logging.ERROR)
        return self
