"""The job of ``scmedal reproduce``: cross-validation, genomaps and gene tests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from scmedal_tools import datasets, pl, tl
from scmedal_tools._data import write_csv, write_whole
from scmedal_tools.bm import OWN_MODELS, model_folder

from ._evaluate_job import Evaluation, EvaluationJob
from ._folder import FOLDS
from ._paper_data import LABELS, MODELS, N_FOLDS, N_PROJECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData

    from scmedal_tools.model import MedalModel

    from ._paper_data import GeneTest, PaperData

READERS: dict[str, Callable[..., AnnData]] = {
    "aml": datasets.aml,
    "asd": datasets.asd,
    "heart": datasets.healthy_heart,
}
SIMILAR_FROM = 0.95  # correlation of two images


def read_published(data_set: str, path: Path) -> AnnData:
    """Read the published files of a data set, with the paper's filters of cells."""
    return READERS[data_set](path)


def paper_job(paper: PaperData, **options: Any) -> EvaluationJob:
    """Give the paper's cross-validation of a data set as a job.

    Parameters
    ----------
    paper
        The data set.
    **options
        ``folds``, ``max_epochs``, ``seed`` and ``n_jobs``.
    """
    return EvaluationJob(
        batch_key=paper.batch_key,
        labels_key=LABELS,
        target_keys=(paper.target, LABELS),
        models=MODELS,
        n_folds=N_FOLDS,
        n_top_genes=paper.n_top_genes,
        preset=paper.preset,
        more_settings=paper.settings or {},
        save_models=True,
        **options,
    )


class Reproduction:
    """The analyses under way, and what they have written so far.

    Parameters
    ----------
    adata
        Cells with raw counts, from the reader of the data set; modified.
    paper
        The data set in the paper.
    job
        The cross-validation, see :func:`paper_job`.
    out
        Folder to write to. The folds that are finished there, with their models, are not computed
        again.
    announce
        Called with one line before each step, and with what was found.
    """

    def __init__(
        self,
        adata: AnnData,
        paper: PaperData,
        job: EvaluationJob,
        out: Path,
        announce: Callable[[str], None],
    ):
        self.paper, self.job, self.out = paper, job, out
        self.n_genes = adata.n_vars
        self.evaluation = Evaluation(adata, job, out, announce)
        self.steps = self.evaluation.steps
        self.layout: dict | None = None
        self.genes = pd.DataFrame()
        self.found = ""
        """What the test of genes gave, beside what the paper found."""

    def execute(self) -> None:
        """Do the whole job."""
        self.evaluation.execute()
        with self.steps.step("sizes", "Compare the data with the paper's"):
            self._compare_sizes()
        if self.paper.colors:
            self._draw_colors()
        with self.steps.step("load", f"Load FE and RE of fold {self.fold}"):
            cells, fixed, random = self._load()
        with self.steps.step("genomaps", "Genomaps"), self.steps.attempt("genomaps.h5ad"):
            self._draw_genomaps(cells, fixed, random)
        test = self.paper.test
        if test is not None:
            title = f"Genes of {test.group} against {test.reference}"
            with self.steps.step("genes", title), self.steps.attempt("tables/genes.csv"):
                self._test_genes(cells, random, test)

    @property
    def fold(self) -> int:
        """Fold whose models are drawn and tested."""
        return self.evaluation.result.settings["folds"][0]

    @property
    def counterparts(self) -> dict[str, str]:
        """Figures and tables of the paper by the file that was written as their counterpart."""
        of_files = self.paper.counterparts
        return {name: paper for name, paper in of_files.items() if (self.out / name).is_file()}

    def conclude(self, **extra: Any) -> dict[str, Any]:
        """Write ``run.json``, with the counterparts; return what it holds."""
        found = {"counterparts": self.counterparts, "genes_found": self.found}
        return self.evaluation.conclude(**found, **extra)

    def _compare_sizes(self) -> None:
        adata = self.evaluation.adata
        here = {
            "cells": adata.n_obs,
            "genes": self.n_genes,
            "batches": adata.obs[self.job.batch_key].nunique(),
            "cell types": adata.obs[LABELS].nunique(),
        }
        table = pd.DataFrame({"here": here, "paper": self.paper.sizes})
        for what, row in table.iterrows():
            self.steps.announce(f"  {row['here']:,} {what}, in the paper {row['paper']:,}")
        self._write_table("data", table, "what", "size of the data here and in the paper")

    def _draw_colors(self) -> None:
        """UMAPs, which have been computed, in more colours."""
        colors, cells = list(self.paper.colors), self.evaluation.result.test_cells
        name = f"embeddings_{'_'.join(colors)}"
        what = f"the same UMAPs, coloured by {' and '.join(colors)}"
        draw = partial(pl.embeddings, cells, list(self.job.models), colors)
        self.evaluation.add_figure(name, what, draw)

    def _load(self) -> tuple[AnnData, MedalModel, MedalModel]:
        """Cells with the genes of the fold, and the models that were trained on them."""
        folders = {n: model_folder(self.out / FOLDS, self.fold, n) for n in ("FE", "RE")}
        genes = OWN_MODELS["RE"].load(folders["RE"], False).gene_names
        cells = self.evaluation.adata[:, genes].copy()
        fixed, random = (OWN_MODELS[n].load(folder, cells) for n, folder in folders.items())
        return cells, fixed, random

    def _draw_genomaps(self, cells: AnnData, fixed: MedalModel, random: MedalModel) -> None:
        batches = list(shown_batches(cells.obs, self.paper))
        present = set(cells.obs[LABELS])
        types = [name for name in self.paper.cell_types if name in present]
        if not batches:
            raise ValueError(
                f"There are no cells of the types {list(self.paper.cell_types)} in "
                f"{self.paper.target} {list(self.paper.batches)}."
            )
        stack = tl.projection_stack(
            cells, fixed, random, N_PROJECTED,
            cell_type=types, labels_key=LABELS, batches=batches, seed=self.job.seed,
        )  # fmt: skip
        tl.genomap_layout(stack, layout="rings", seed=self.job.seed)
        self.layout = stack.uns["genomap"]
        write_whole(self.out / "genomaps.h5ad", stack.write_h5ad)
        written = self.evaluation.written
        written["genomaps.h5ad"] = "cells as measured, by FE, and by RE in each batch; layout"
        draw = partial(pl.genomap_panel, stack, shown_cells(stack), batches, similar=SIMILAR_FROM)
        what = "a cell of each batch in all of them"
        self.evaluation.add_figure("genomaps", what, partial(draw, differences=False))
        what = "the same, and what each batch adds to the own one"
        self.evaluation.add_figure("counterfactuals", what, draw)

    def _test_genes(self, cells: AnnData, random: MedalModel, test: GeneTest) -> None:
        self.genes = table = tl.counterfactual_de(
            random, cells, self.paper.target, N_PROJECTED, test.method,
            group=test.group, reference=test.reference, labels_key=LABELS, label=test.label,
            layout=self.layout, n_jobs=self.job.n_jobs, seed=self.job.seed,
        )  # fmt: skip
        below, adjusted = ((table[p] < tl.SIGNIFICANT).sum() for p in ("p_value", "adj_p_value"))
        self.found = (
            f"{below:,} of {len(table):,} genes have p < {tl.SIGNIFICANT}, {adjusted:,} after "
            f"adjustment; in the paper ({test.table}) {test.found}, without adjustment."
        )
        self.steps.announce(f"  {self.found}")
        what = f"genes of {test.group} against {test.reference}, in {test.label} cells"
        self._write_table("genes", table, "gene", what)

    def _write_table(self, name: str, table: pd.DataFrame, index: str, what: str) -> None:
        file = f"tables/{name}.csv"
        write_csv(self.out / file, table, index_label=index)
        self.evaluation.written[file] = what


def shown_batches(obs: pd.DataFrame, paper: PaperData) -> Iterator[str]:
    """Batches of the genomaps: those the paper names, then those with the most such cells."""
    of_types = obs[obs[LABELS].isin(paper.cell_types)]
    if paper.shared is not None:
        of_types = of_types[of_types[paper.shared] == of_types[paper.shared].mode()[0]]
    for value, named in paper.batches.items():
        of_value = of_types.loc[of_types[paper.target] == value, paper.batch_key].astype(str)
        by_size = list(of_value.value_counts(sort=False).sort_index().sort_values(
            ascending=False, kind="stable"
        ).index)  # fmt: skip
        first = [name for name in named if name in by_size]
        yield from list(dict.fromkeys([*first, *by_size]))[: paper.batches_each]


def shown_cells(stack: AnnData) -> list[str]:
    """Cells of the genomaps: the first of each batch and cell type in the stack."""
    measured = stack.obs[stack.obs["projection"] == "original"]
    first = measured.drop_duplicates(["batch", "cell_type"])
    return list(first.sort_values(["batch", "cell_type"], kind="stable")["cell"])
