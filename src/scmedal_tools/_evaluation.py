"""The evaluation job: confounding, cross-validation, tables and figures, in a folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

from . import bm, pl
from ._checks import check_names
from ._steps import DEFAULT_GENES, Steps, announce_size, prepare_expression, write_record
from .bm._checkpoints import SETTINGS
from .bm._embedders import COMPARATORS, OWN_MODELS
from .bm._write_tables import file_stem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData

    from .train._folds import Scheme

DEFAULT_MODELS: Final = ("pca", "FE", "RE")
FOLDS: Final = "folds"  # folder of what each fold gave, from which a run goes on


@dataclass(frozen=True)
class EvaluationJob:
    """What the user asked for."""

    batch_key: str
    labels_key: str
    target_keys: tuple[str, ...] = ()
    models: tuple[str, ...] = DEFAULT_MODELS
    scheme: Scheme = "cells"
    n_folds: int = 5
    quick: bool = False
    n_top_genes: int | None = None
    layer: str | None = None
    size_factor_key: str | None = None
    max_epochs: int | None = None
    seed: int = 0
    n_jobs: int = 1

    def settings(self) -> dict[str, dict[str, Any]]:
        """Arguments of single models: the number of epochs, for those that have one."""
        if self.max_epochs is None:
            return {}
        return {name: {"max_epochs": self.max_epochs} for name in self.models if _is_trained(name)}


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
        self.steps = Steps(announce)
        self.written: dict[str, str] = {}

    def execute(self) -> None:
        """Do the whole job."""
        check_names(self.adata)
        with self.steps.step("confounding", "Confounding"):
            confounding = self._confounding()
        with self.steps.step("preprocess", "Preprocess"):
            n_top_genes = self._preprocess()
        title = "Cross-validation (if interrupted, the same command goes on from there)"
        with self.steps.step("cross_validate", title):
            self.result = self._cross_validate(n_top_genes)
        if len(self.result.rare):
            self.steps.announce(
                f"  {len(self.result.rare)} combinations of {self.job.batch_key} and "
                f"{self.job.labels_key} have fewer cells than folds, and are not in every test set"
            )
        if self.result.conclusions:
            self.steps.announce("Conclusions")
        for sentence in self.result.conclusions.values():
            self.steps.announce(f"  {sentence}")
        tables = bm.paper_tables(self.result)
        with self.steps.step("figures", "Figures"):
            self._draw(tables)
        with self.steps.step("tables", "Tables"):
            self._write_tables(tables, confounding)
        self.written[f"{FOLDS}/"] = "embeddings of each fold, and all scores in table.csv"

    def write_record(self, **extra: Any) -> None:
        """Write ``run.json``: parameters, versions, seed and timings of this call."""
        file, parameters = self.out / "run.json", asdict(self.job)
        found = {"conclusions": self.result.conclusions, "cross_validation": self.result.settings}
        write_record(file, parameters, self.adata, self.steps, **found, **extra)
        self.written["run.json"] = "parameters, conclusions, seed, versions and timings"

    def _confounding(self) -> bm.Confounding:
        job = self.job
        found = bm.confounding(
            self.adata, job.batch_key, list(dict.fromkeys([job.labels_key, *job.target_keys]))
        )
        for line in str(found).splitlines():
            self.steps.announce(f"  {line}")
        return found

    def _preprocess(self) -> int | None:
        """Log-normalise all genes; return how many are to be selected in each fold."""
        job, announce = self.job, self.steps.announce
        had_counts = prepare_expression(
            self.adata, job.batch_key, job.layer, job.size_factor_key, None, announce
        )
        announce_size(self.adata, job.batch_key, announce)
        n_top_genes = job.n_top_genes
        if n_top_genes is None and had_counts and self.adata.n_vars > DEFAULT_GENES:
            n_top_genes = DEFAULT_GENES
        if n_top_genes is not None:
            announce(f"  in each fold the {n_top_genes:,} most variable genes are selected")
        return n_top_genes

    def _cross_validate(self, n_top_genes: int | None) -> bm.CrossValidation:
        job = self.job
        return bm.cross_validate(
            self.adata,
            job.batch_key,
            job.labels_key,
            job.target_keys,
            models=job.models,
            n_folds=job.n_folds,
            scheme=job.scheme,
            folds=[0] if job.quick else None,
            n_top_genes=n_top_genes,
            settings=job.settings(),
            n_jobs=job.n_jobs,
            seed=job.seed,
            out=self.out / FOLDS,
        )

    def _draw(self, tables: dict) -> None:
        figures = self.out / "figures"
        figures.mkdir(exist_ok=True)
        metrics: dict[str, tuple[str, str | None, str]] = {
            "clustering": ("ASW", None, "silhouettes of batches and cell types")
        }
        for target in self.job.target_keys:
            description = f"balanced accuracy for {target}"
            metrics[f"classification_{target}"] = ("balanced_accuracy", target, description)
        for name in tables:
            metric, of, description = metrics[name]
            file = f"{file_stem(name)}.png"
            pl.scores(self.result, metric, of, save=figures / file)
            self.written[f"figures/{file}"] = description

    def _write_tables(self, tables: dict, confounding: bm.Confounding) -> None:
        folder = self.out / "tables"
        bm.write_tables(tables, folder)
        for name in tables:
            shape = "Tables S6 to S11" if name == "clustering" else "Table 1 and S12"
            files = f"tables/{file_stem(name)}.csv, .md, .tex"
            self.written[files] = f"in the shape of the paper's {shape}"
        others = {"confounding": (confounding.summary, "which columns go together")}
        if len(self.result.votes):
            votes = self.result.votes_summary()
            others["votes"] = (votes, "accuracy over whole batches that were held out")
        for name, (table, description) in others.items():
            table.to_csv(folder / f"{name}.csv", index=False)
            self.written[f"tables/{name}.csv"] = description


def holds_evaluation(out: Path) -> bool:
    """Whether an evaluation can go on in this folder, or start there because it is empty."""
    return out.is_dir() and (not any(out.iterdir()) or (out / FOLDS / SETTINGS).is_file())


def _is_trained(method: str) -> bool:
    if method in COMPARATORS:
        return "max_epochs" in signature(COMPARATORS[method]).parameters
    return method in OWN_MODELS
