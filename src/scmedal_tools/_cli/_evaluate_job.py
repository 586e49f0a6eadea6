"""The job of ``scmedal evaluate``: confounding, cross-validation, tables and figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from scmedal_tools import bm, pl
from scmedal_tools._data import check_names, write_csv
from scmedal_tools.bm import COMPARATORS, OWN_MODELS, file_stem

from ._draw_and_save import draw_and_save
from ._folder import FOLDS
from ._prepare_expression import DEFAULT_GENES, announce_size, prepare_expression
from ._timed_steps import TimedSteps
from ._write_record import write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from anndata import AnnData

    from scmedal_tools.train import Scheme

DEFAULT_MODELS: Final = ("pca", "FE", "RE")


@dataclass(frozen=True)
class EvaluationJob:
    """What the user asked for."""

    batch_key: str
    labels_key: str
    target_keys: tuple[str, ...] = ()
    models: tuple[str, ...] = DEFAULT_MODELS
    scheme: Scheme = "cells"
    stratify_keys: tuple[str, ...] | None = None
    n_folds: int = 5
    folds: tuple[int, ...] | None = None
    """Folds to run; ``None`` for all."""
    n_top_genes: int | None = None
    layer: str | None = None
    size_factor_key: str | None = None
    preset: str = "default"
    max_epochs: int | None = None
    scib: bool = False
    seed: int = 0
    n_jobs: int = 1
    save_models: bool = False
    more_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arguments of single models, beside preset and number of epochs."""

    @classmethod
    def of_options(cls, options: Mapping[str, Any], **others: Any) -> EvaluationJob:
        """Give the job of a command's options, by the names of the fields, and what else it is.

        Raises
        ------
        TypeError
            If a field is neither among the options nor given.
        """
        names = {f.name for f in fields(cls)}
        if missing := sorted(names - options.keys() - others.keys()):
            raise TypeError(f"Neither an option nor given: {', '.join(missing)}.")
        return cls(**{name: options[name] for name in names & options.keys()} | others)

    def settings(self) -> dict[str, dict[str, Any]]:
        """Arguments of single models: preset and number of epochs, of those that have one."""
        asked = {"preset": self.preset, "max_epochs": self.max_epochs}
        given = {key: value for key, value in asked.items() if value is not None}
        taken = {
            name: {key: value for key, value in given.items() if _has(name, key)}
            | self.more_settings.get(name, {})
            for name in self.models
        }
        return {name: settings for name, settings in taken.items() if settings}

    def arguments(self) -> dict[str, Any]:
        """Arguments of ``bm.cross_validate``, beside the cells and the folder."""
        taken = signature(bm.cross_validate).parameters
        given = {name: value for name, value in vars(self).items() if name in taken}
        return given | {"settings": self.settings()}


class Evaluation:
    """An evaluation under way, and what it has written so far.

    Parameters
    ----------
    adata
        Cells; modified.
    job
        What to do.
    out
        Folder to write to; made once the input has passed all checks. The folds that are finished
        there are not computed again.
    announce
        Called with one line before each step, and with what was found.
    """

    def __init__(
        self, adata: AnnData, job: EvaluationJob, out: Path, announce: Callable[[str], None]
    ):
        self.adata = adata
        self.job = job
        self.out = out
        self.figures = out / "figures"
        self.steps = TimedSteps(announce)
        self.written = {"report.html": "everything on one page: open this first"}

    def execute(self) -> None:
        """Do the whole job."""
        check_names(self.adata)
        with self.steps.step("confounding", "Confounding"):
            self.confounding = self._find_confounding()
        with self.steps.step("preprocess", "Preprocess"):
            n_top_genes = self._preprocess()
        title = "Cross-validation (if interrupted, the same command resumes)"
        with self.steps.step("cross_validate", title):
            self.result = self._cross_validate(n_top_genes)
        if len(self.result.rare):
            self.steps.announce(
                f"  {len(self.result.rare)} combinations of {self.job.batch_key} and "
                f"{self.job.labels_key} have fewer cells than folds: some test sets lack them"
            )
        if self.result.conclusions:
            self.steps.announce("Conclusions")
        for sentence in self.result.conclusions.values():
            self.steps.announce(f"  {sentence}")
        self.tables = bm.paper_tables(self.result)
        with self.steps.step("tables", "Tables"), self.steps.attempt("tables"):
            self._write_tables()
        with self.steps.step("figures", "Figures"):
            self._draw()
        self.written[f"{FOLDS}/"] = "embeddings of each fold, and all scores in table.csv"

    @property
    def claims(self) -> list[str]:
        """Columns about which something may be claimed: cell types and targets."""
        return list(dict.fromkeys([self.job.labels_key, *self.job.target_keys]))

    @property
    def trained(self) -> list[str]:
        """Models whose losses can be drawn: the package's own, after two epochs and more."""
        fewest = self.result.epochs.groupby("embedding")["epochs"].min()
        return [m for m in self.job.models if m in self.result.histories and fewest[m] > 1]

    def conclude(self, **extra: Any) -> dict[str, Any]:
        """Write ``run.json``: parameters, versions, seed and timings; return what it holds."""
        file, parameters = self.out / "run.json", asdict(self.job)
        found = {"conclusions": self.result.conclusions, "cross_validation": self.result.settings}
        record = write_record(file, parameters, self.adata, self.steps, **found, **extra)
        self.written["run.json"] = "parameters, conclusions, seed, versions and timings"
        return record

    def _find_confounding(self) -> bm.Confounding:
        found = bm.confounding(self.adata, self.job.batch_key, self.claims)
        for line in str(found).splitlines():
            self.steps.announce(f"  {line}")
        return found

    def _preprocess(self) -> int | None:
        """Log-normalise all genes; return how many are to be selected in each fold."""
        job, announce = self.job, self.steps.announce
        given = self.adata.shape
        had_counts = prepare_expression(
            self.adata, job.batch_key, job.layer, job.size_factor_key, None, self.steps
        )
        announce_size(self.adata, given, job.batch_key, announce)
        n_top_genes = job.n_top_genes
        if n_top_genes is None and had_counts and self.adata.n_vars > DEFAULT_GENES:
            n_top_genes = DEFAULT_GENES
        if n_top_genes is not None:
            announce(f"  in each fold the {n_top_genes:,} most variable genes are selected")
        return n_top_genes

    def _cross_validate(self, n_top_genes: int | None) -> bm.CrossValidation:
        job = replace(self.job, n_top_genes=n_top_genes)
        return bm.cross_validate(self.adata, **job.arguments(), out=self.out / FOLDS)

    def _draw(self) -> None:
        self.figures.mkdir(exist_ok=True)
        metrics: dict[str, tuple[str, str | None, str]] = {
            "clustering": ("ASW", None, "silhouettes of batches and cell types")
        }
        for target in self.job.target_keys:
            description = f"balanced accuracy for {target}"
            metrics[f"classification_{target}"] = ("balanced_accuracy", target, description)
        for name in self.tables:
            metric, of, description = metrics[name]
            self.add_figure(name, description, pl.scores, self.result, metric, of)
        colors = [self.job.batch_key, *self.claims]
        cells = self.result.test_cells
        self.steps.announce(f"  UMAPs of {cells.n_obs:,} test cells")
        description = "UMAPs of the first fold's test cells"
        self.add_figure("embeddings", description, pl.embeddings, cells, list(cells.obsm), colors)
        for name in self.trained:
            description = f"losses of {name}, means over the folds"
            history = self.result.histories[name]
            self.add_figure(f"training_{name}", description, pl.training, history)
        for target in self.claims:
            description = f"cells of each {self.job.batch_key} and {target}"
            pair = (self.job.batch_key, target)
            self.add_figure(
                f"confounding_{target}", description, pl.confounding, self.confounding, pair
            )

    def add_figure(
        self, name: str, description: str, draw: Callable[..., Any], *what: Any
    ) -> None:
        """Draw a figure by a function with ``save``; if that fails, the rest goes on."""
        file = f"{file_stem(name)}.png"
        with self.steps.attempt(f"figures/{file}"):
            draw_and_save(self.figures / file, draw, *what)
            self.written[f"figures/{file}, .pdf"] = description

    def _write_tables(self) -> None:
        folder = self.out / "tables"
        bm.write_tables(self.tables, folder)
        for name in self.tables:
            shape = "Tables S6 to S11" if name == "clustering" else "Table 1 and S12"
            files = f"tables/{file_stem(name)}.csv, .md, .tex"
            self.written[files] = f"in the shape of the paper's {shape}"
        others = {
            "confounding": (self.confounding.summary, "which columns are confounded"),
            "scores": (self.result.summary(), "all scores, means and 95% intervals over folds"),
        }
        if len(self.result.epochs):
            others["epochs"] = (self.result.epochs, "epochs of training of each model")
        if len(self.result.votes):
            votes = self.result.votes_summary()
            others["votes"] = (votes, "accuracy over held-out batches")
        for name, (table, description) in others.items():
            write_csv(folder / f"{name}.csv", table, index=False)
            self.written[f"tables/{name}.csv"] = description


def _has(method: str, argument: str) -> bool:
    if method in COMPARATORS:
        return argument in signature(COMPARATORS[method]).parameters
    return method in OWN_MODELS
