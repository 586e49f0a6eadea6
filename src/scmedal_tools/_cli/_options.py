"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Input = Annotated[
    Path, typer.Argument(metavar="INPUT.h5ad", help="Cells with raw or log-normalised counts.")
]
BatchKey = Annotated[
    str, typer.Option(help="Column of obs with each cell's batch, donor or sample.")
]
Layer = Annotated[str | None, typer.Option(help="Layer with the expression, instead of X.")]
SizeFactorKey = Annotated[
    str | None,
    typer.Option(help="Column of obs with total counts, if the file contains only some genes."),
]
MaxEpochs = Annotated[
    int | None, typer.Option(min=1, help="Largest number of epochs of each network.")
]
Preset = Annotated[
    str,
    typer.Option(
        help="Settings of the networks: default, paper or paper-aml, paper-asd, paper-heart."
    ),
]
Out = Annotated[
    Path, typer.Option(help="Folder to write the results to; an interrupted run in it resumes.")
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace the results of an earlier run in that folder; train again."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the training.")]
AllSeeds = Annotated[int, typer.Option(min=0, help="Seed of the folds and of all training.")]
NJobs = Annotated[int, typer.Option(min=1, help="Models to train side by side.")]
