"""The job of ``scmedal demo``: a run on simulated donors, compared with the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scmedal_tools import bm, datasets
from scmedal_tools._data import write_csv

from ._draw_and_save import draw_and_save
from ._draw_true_shifts import draw_true_shifts
from ._run_job import Run, RunJob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

# Half of what ``datasets.simulated`` gives, which takes two thirds of the time.
N_GENES = 1_000


def demo_job(**options: Any) -> RunJob:
    """Give the run on simulated donors as a job; ``options`` are ``max_epochs`` and ``seed``."""
    return RunJob("donor", "cell_type", "condition", transform_batch=("donor_01",), **options)


class Demo:
    """The run under way, and what is found beside the truth.

    Parameters
    ----------
    job
        The run, see :func:`demo_job`.
    out, announce, overwrite
        See :class:`Run`.
    """

    recovery: pd.DataFrame

    def __init__(self, job: RunJob, out: Path, announce: Callable[[str], None], overwrite: bool):
        cells = datasets.simulated(n_genes=N_GENES, seed=job.seed)
        self.run = Run(cells, job, out, announce, overwrite)

    def execute(self) -> None:
        """Do the whole job."""
        run = self.run
        run.execute()
        run.steps.announce("Compare with the truth")
        self.recovery = bm.effect_recovery(run.models["re"], run.adata)
        write_csv(run.out / "effect_recovery.csv", self.recovery, index=False)
        with run.steps.attempt("figures/true_shifts.png"):
            file = run.figures / "true_shifts.png"
            draw_and_save(file, draw_true_shifts, run.means, run.adata)

    @property
    def medians(self) -> pd.DataFrame:
        """Medians over all effects, of each method."""
        by_method = self.recovery.groupby("method")
        return by_method.median(numeric_only=True).sort_values("correlation")

    @property
    def n_effects(self) -> int:
        """Number of effects that each method predicted."""
        return len(self.recovery) // self.recovery["method"].nunique()

    def conclude(self, **extra: Any) -> dict[str, Any]:
        """Write ``run.json``, with the medians; return what it holds."""
        return self.run.conclude(**extra, effect_recovery=self.medians.T.to_dict())
