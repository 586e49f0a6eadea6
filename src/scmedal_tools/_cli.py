"""Mixed-effects autoencoders for single-cell data: what cells share, and what batches add."""

from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from anndata import AnnData

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
console = Console()
errors = Console(stderr=True)

CHATTY_LOGGERS = ("lightning.pytorch", "lightning.fabric", "scvi")

Out = Annotated[Path, typer.Option(help="Folder to write the results to.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results of an earlier run in that folder.")
]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]
MaxEpochs = Annotated[int | None, typer.Option(help="Largest number of epochs of each network.")]


@app.command(context_settings={"allow_extra_args": True})
def run(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(metavar="INPUT.h5ad", help="Cells with raw or log-normalised counts.")
    ],
    batch_key: Annotated[
        str, typer.Option(help="Column of obs with each cell's batch, donor or sample.")
    ],
    out: Out,
    labels_key: Annotated[
        str | None,
        typer.Option(help="Column of obs with cell types: the fixed effects also learn them."),
    ] = None,
    transform_batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME ...",
            help="Batches as which to predict the mean expression of all others; after the file.",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer with the expression, instead of X.")
    ] = None,
    size_factor_key: Annotated[
        str | None,
        typer.Option(help="Column of obs with total counts, if the file has some genes only."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="default, paper (its AML weights), paper-asd or paper-heart.")
    ] = "default",
    max_epochs: MaxEpochs = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train both networks on an h5ad file and write embeddings, models and figures."""
    # `--transform-batch A B`: click gives the option its first value and leaves the others over.
    if context.args and not transform_batch:
        raise typer.BadParameter(f"unexpected arguments: {' '.join(context.args)}")
    if not path.is_file():
        raise typer.BadParameter(f"There is no file {path}. Give the .h5ad file first.")
    _check_folder(out, overwrite)
    if path.resolve().is_relative_to(out.resolve()):
        _fail(f"{path} lies in the folder of the results, {out}. Choose another --out.")
    _announce(f"Read {path}")
    with _quiet(), _explained():
        from ._pipeline import Job, Run

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
        job_run = Run(_read(path), job, out, announce=_announce)
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
    """Do the same on simulated donors, and compare the predicted effects with the true ones."""
    _check_folder(out, overwrite)
    _announce("Simulate donors with known effects on each gene")
    with _quiet(), _explained():
        from . import bm, datasets
        from ._pipeline import Job, Run

        job = Job(
            "donor", "cell_type", transform_batch=("donor_01",), max_epochs=max_epochs, seed=seed
        )
        job_run = Run(datasets.simulated(seed=seed), job, out, announce=_announce)
        job_run.execute()
        _announce("Compare with the truth")
        recovery = bm.effect_recovery(job_run.models["re"], job_run.adata)
        recovery.to_csv(out / "effect_recovery.csv", index=False)
        medians = recovery.groupby("method").median(numeric_only=True)
        job_run.write_record(input="datasets.simulated", effect_recovery=medians.T.to_dict())
    _conclude(out)
    _show_recovery(medians, len(recovery) // len(medians))


def _check_folder(out: Path, overwrite: bool) -> None:
    """Refuse a folder with files, unless the user insists."""
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        _fail(
            f"{out} is not empty. Choose another --out, or pass --overwrite to replace the "
            "results of an earlier run in it."
        )
    if out.exists() and not out.is_dir():
        _fail(f"{out} is a file. Choose another --out.")


def _read(path: Path) -> AnnData:
    import anndata

    try:
        return anndata.read_h5ad(path)
    except Exception as error:
        # Whatever h5py and anndata raise for a file of another kind.
        raise ValueError(
            f"{path} cannot be read as an .h5ad file ({error}). Read it with the function of "
            "scanpy that fits, for example sc.read_10x_h5, and save it with adata.write_h5ad."
        ) from error


def _fail(message: str) -> None:
    errors.print("Error:", style="red", end=" ")
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def _announce(line: str) -> None:
    style = None if line.startswith(" ") else "bold"
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _conclude(out: Path) -> None:
    from ._pipeline import OUTPUTS

    files = Table.grid(padding=(0, 3))
    for name, description in OUTPUTS.items():
        if (out / name).exists():
            files.add_row(f"  {name}", description)
    _announce(f"\nWritten to {out}")
    console.print(files)
    _announce(
        "\nOpen figures/embeddings.png first. Fixed effects: batches should mix, cell types stay "
        "apart.\nRandom effects: what each batch adds. Then the loss curves: have they settled?"
    )


def _show_recovery(medians: pd.DataFrame, n_effects: int) -> None:
    table = Table(
        "estimated by",
        title=f"\nEffect of moving a type's cells to another donor, medians of {n_effects} cases",
        caption="correlation with the truth over genes, slope (1 is calibrated),\n"
        "squared error relative to the true effect",
    )
    for metric in medians:
        table.add_column(metric.replace("_", " "), justify="right")
    for method, row in medians.sort_values("correlation").iterrows():
        table.add_row(str(method), *(f"{value:.2f}" for value in row))
    console.print(table)


@contextmanager
def _explained() -> Iterator[None]:
    """Show a refusal as one message instead of a traceback."""
    try:
        yield
    except (ValueError, KeyError, OSError) as error:
        # The str() of a KeyError is the repr of its message.
        message = str(error.args[0] if isinstance(error, KeyError) else error)
        in_python = r"Run:\nscmedal_tools\.pp\.preprocess\(adata, layer='(.+)'\)"
        message = re.sub(in_python, r"Pass --layer \1.", message)
        _fail(message)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave progress bars and our own notes, hide the chatter of the libraries."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|torch|anndata|scanpy|umap|scvi)\b")
        warnings.showwarning = lambda message, *_: _announce(f"  note: {message}")
        # Loaded first, because lightning sets the levels when it is imported.
        from . import _pipeline  # noqa: F401

        levels = {logger: logger.level for logger in map(logging.getLogger, CHATTY_LOGGERS)}
        try:
            for logger in levels:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
