"""The command that trains both networks on simulated donors, whose effects are known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ._console import announce, console, explained, fail_if_incomplete, with_notes
from ._folder import check_folder
from ._options import MaxEpochs, Out, Overwrite, Seed
from ._run import announce_results

if TYPE_CHECKING:
    import pandas as pd


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
        from ._demo_job import Demo, demo_job
        from ._report import report_run

        job = demo_job(max_epochs=max_epochs, seed=seed)
        done = Demo(job, out, announce, overwrite)
        done.execute()
        report_run(done.run, done.conclude(input="datasets.simulated"))
    announce_results(out)
    _show_recovery(done.medians, done.n_effects)
    fail_if_incomplete(done.run.steps.failures)


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
