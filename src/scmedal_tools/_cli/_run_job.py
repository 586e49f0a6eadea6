"""The job of ``scmedal run``: preprocess, train both networks, write results and figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scanpy as sc
import scvi

from scmedal_tools import bm, model, pl, tl
from scmedal_tools._data import (
    check_labels,
    check_names,
    check_obs,
    check_writable,
    fingerprint,
    make_names_writable,
    slots,
    write_csv,
    write_whole,
)
from scmedal_tools._find_level import find_level
from scmedal_tools._how_to_install import how_to_install
from scmedal_tools.tl import umap_key
from scmedal_tools.train import get_preset

from ._draw_and_save import draw_and_save
from ._draw_shifts import draw_shifts
from ._end_of_training import still_improving, why_it_ended
from ._findings import Trained, findings
from ._folder import prepare_folder
from ._prepare_expression import DEFAULT_GENES, announce_size, prepare_expression
from ._shifts_with_intervals import shifts_with_intervals
from ._strongest_shifts import strongest_shifts
from ._timed_steps import TimedSteps
from ._write_record import versions, write_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scmedal_tools.model import MedalModel

PAPER_GENES = {"paper-heart": 3000}  # scMEDAL, Table S1
PAPER_GENES |= dict.fromkeys(("paper", "paper-aml", "paper-asd"), 2916)

# For a first look at the effects of batches, in seconds: draws, and cells over all batches.
N_DRAWS, N_CELLS = 20, 1_500
# Of the genomaps: cells of the layout, and its genes; cells and batches that are drawn.
N_STACKED, N_MAPPED, N_DRAWN = 60, 900, 3


@dataclass(frozen=True)
class RunJob:
    """What the user asked for."""

    batch_key: str
    labels_key: str | None = None
    condition_key: str | None = None
    reference: str | None = None
    """Group of the condition with which the others are compared; by default the first."""
    n_top_genes: int | None = None
    layer: str | None = None
    size_factor_key: str | None = None
    preset: str = "default"
    transform_batch: tuple[str, ...] = ()
    max_epochs: int | None = None
    seed: int = 0


class Run:
    """A job under way: its data, models, timings and the files written so far.

    Parameters
    ----------
    adata
        Cells; modified.
    job
        What to do.
    out
        Folder to write to. Once the input has passed all checks, it is made where needed, and
        what an earlier job wrote there is removed, but models of the same job, which are used.
    announce
        Called with one line before each step.
    overwrite
        Train again, and remove models of any earlier job.
    """

    def __init__(
        self,
        adata: AnnData,
        job: RunJob,
        out: Path,
        announce: Callable[[str], None] = print,
        overwrite: bool = False,
    ):
        self.adata = adata
        self.job = job
        self.out = out
        self.overwrite = overwrite
        self.steps = TimedSteps(announce)
        self.models: dict[str, MedalModel] = {}
        self.embeddings: list[str] = []
        self.confounding: bm.Confounding | None = None
        self.means: AnnData | None = None
        """Counterfactual means, if targets were named."""
        self.group_effects: tl.GroupEffects | None = None
        self.untested = ""
        self._total_counts: str | None = None
        self.findings: list[str] = []
        self.figures = out / "figures"

    @property
    def colors(self) -> list[str]:
        """Columns by which cells are coloured."""
        job = self.job
        return [key for key in (job.batch_key, job.labels_key, job.condition_key) if key]

    @property
    def claims(self) -> list[str]:
        """Columns that may be confounded with the batch."""
        return self.colors[1:]

    def confounding_figure(self, claim: str) -> Path:
        """File with the number of cells by batch and a column."""
        ending = "" if claim == self.job.labels_key else "_condition"
        return self.figures / f"confounding{ending}.png"

    def execute(self) -> None:
        """Do the whole job."""
        self._check()
        with self.steps.step("preprocess", "Preprocess"):
            self._preprocess()
            self._check_targets()  # the filters may have emptied a batch
        prepare_folder(self.out, self._settings(), self.overwrite)
        fixed = model.SCMEDAL_FEC if self.job.labels_key else model.SCMEDAL_FE
        for cls in (fixed, model.SCMEDAL_RE):
            name = cls.__name__.removeprefix("SCMEDAL_").lower()
            with self.steps.step(f"train_{name}", f"Train {cls.__name__}"):
                self._add(cls, name)
        scvi.settings.seed = self.job.seed  # of what follows, whether or not there was training
        if self.job.transform_batch:
            with (
                self.steps.step("counterfactuals", "Counterfactual means"),
                self.steps.attempt("counterfactual_means.h5ad"),
            ):
                self._write_counterfactual_means()
        with self.steps.step("findings", "Findings"), self.steps.attempt("findings"):
            job = self.job
            found = Trained(
                adata=self.adata,
                batch_key=job.batch_key,
                labels_key=job.labels_key,
                models=self.models,
                embeddings=self.embeddings,
                confounding=self.confounding,
                seed=job.seed,
            )
            self.findings = findings(found)
            for sentence in self.findings:
                self.steps.announce(f"  {sentence}")
        if self.job.condition_key:
            with (
                self.steps.step("group_effects", f"Effects of {self.job.condition_key}"),
                self.steps.attempt("group_effects.csv"),
            ):
                self._test_condition()
        try:
            with self.steps.step("figures", "Figures"):
                self._draw()
        finally:  # with the UMAPs, and also where the user has no patience for the figures
            with self.steps.step("write", "Write the cells"), self.steps.attempt("adata.h5ad"):
                self._write_cells(self.adata, "adata.h5ad")

    def _check(self) -> None:
        self._make_writable()
        job, adata = self.job, self.adata
        get_preset("SCMEDAL_RE", job.preset)
        check_names(adata)
        check_obs(adata, job.batch_key)
        if job.labels_key is not None:
            check_labels(adata, job.labels_key)
        if job.condition_key is not None:
            check_obs(adata, job.condition_key, what="condition_key")
            if "`" in job.condition_key:
                raise ValueError(
                    f"condition_key={job.condition_key!r} has a backtick, which no formula can "
                    "have in a name. Rename the column in the file."
                )
            self._groups()
        if self.claims:
            self.confounding = bm.confounding(adata, job.batch_key, self.claims)
        self._check_targets()

    def _make_writable(self) -> None:
        renamed = make_names_writable(self.adata)
        for place, names in renamed.items():
            for old, new in names.items():
                self.steps.announce(
                    f"  {place}[{old!r}] is renamed {new!r}: names in files cannot contain a slash"
                )
        keys = ("batch_key", "labels_key", "condition_key", "size_factor_key")
        named = {
            key: renamed["obs"].get(old, old) for key in keys if (old := getattr(self.job, key))
        }
        self.job = replace(self.job, **named)
        check_writable(self.adata)

    def _check_targets(self) -> None:
        job, adata = self.job, self.adata
        batches = adata.obs[job.batch_key].unique()
        unknown = [name for name in job.transform_batch if find_level(batches, name) is None]
        if unknown:
            raise ValueError(
                f"transform_batch: {unknown} are not in adata.obs[{job.batch_key!r}]. Choose from "
                f"{', '.join(sorted(map(str, batches)))}."
            )

    def _preprocess(self) -> None:
        """Raw counts are preprocessed; log-normalised expression is used as it is."""
        job, adata, announce = self.job, self.adata, self.steps.announce
        given, had_totals = adata.shape, slots.TOTAL_COUNTS in adata.obs
        n_top_genes = job.n_top_genes or PAPER_GENES.get(job.preset, DEFAULT_GENES)
        had_counts = prepare_expression(
            adata, job.batch_key, job.layer, job.size_factor_key, n_top_genes, self.steps
        )
        # Those that were there may be of other counts than those that are given.
        if slots.TOTAL_COUNTS in adata.obs and not (had_counts and had_totals):
            self._total_counts = slots.TOTAL_COUNTS
        if had_counts or job.layer is not None or slots.PCA not in adata.obsm:
            # Of the genes that the networks see, whatever var["highly_variable"] says.
            sc.pp.pca(adata, n_comps=min(50, *(n - 1 for n in adata.shape)), mask_var=None)
            adata.obsm.pop(umap_key(slots.PCA), None)
        self.embeddings.append(slots.PCA)
        announce_size(adata, given, job.batch_key, announce)

    def _settings(self) -> dict[str, Any]:
        """What the models depend on: all but the targets and the condition."""
        job, adata = self.job, self.adata
        columns = [key for key in (job.batch_key, job.labels_key) if key]
        layers = [slots.COUNTS_LAYER] if slots.COUNTS_LAYER in adata.layers else []
        asked = asdict(replace(job, transform_batch=(), condition_key=None, reference=None))
        data = fingerprint(adata, columns, [], layers)
        return asked | {"versions": versions(), "data": data}

    def _add(self, cls: type[MedalModel], name: str) -> None:
        adata, file = self.adata, self.out / "models" / name / "model.pt"
        if file.exists():
            self.steps.announce("  trained before: loaded")
            trained = cls.load(file.parent, adata)
        else:
            trained = self._train(cls)
            # Saved at once: hours of training must not hang on what comes after.
            with self.steps.attempt(f"models/{name}"):
                model.save_whole(trained, file.parent)
        self.models[name] = trained
        self.embeddings.append(tl.embed(adata, trained))
        if still_improving(trained):
            n_epochs = len(trained.history["train_loss"])
            self.steps.announce(
                f"  still improving in the last of its {n_epochs} epochs. Raise --max-epochs."
            )
        with self.steps.attempt(f"history/{name}.csv"):
            history = pd.concat(trained.history.values(), axis=1)
            write_csv(self.out / "history" / f"{name}.csv", history)

    def _train(self, cls: type[MedalModel]) -> MedalModel:
        job, adata = self.job, self.adata
        scvi.settings.seed = job.seed  # of each network, whether or not one was trained before it
        # Only FEC learns from cell types; the others then need none for new cells.
        labels_key = job.labels_key if cls is model.SCMEDAL_FEC else None
        cls.setup_anndata(adata, batch_key=job.batch_key, labels_key=labels_key)
        trained = cls(adata, preset=job.preset)
        trained.train(max_epochs=job.max_epochs)
        self.steps.announce(f"  {why_it_ended(trained)}")
        return trained

    def _groups(self) -> tuple[Any, list]:
        """Reference of the condition, and the groups that are compared with it."""
        key, name = self.job.condition_key, self.job.reference
        groups = tl.groups_of(self.adata.obs[key])
        position = 0 if name is None else find_level(groups, name)
        if position is None:
            listed = ", ".join(map(str, groups))
            raise ValueError(f"reference={name!r} is no group of {key!r}. Choose from {listed}.")
        return groups.pop(position), groups

    def _test_condition(self) -> None:
        job, adata, key = self.job, self.adata, self.job.condition_key
        try:
            reference, groups = self._groups()  # the filters may have emptied one
            if slots.COUNTS_LAYER not in adata.layers:
                raise ValueError("That needs raw counts, and the expression is log-normalised.")
            self.group_effects = tl.group_effects(
                adata,
                f"~ C(`{key}`)",  # also where its groups have numbers for names
                job.batch_key,
                contrast={f"{group} - {reference}": (key, group, reference) for group in groups},
                labels_key=job.labels_key,
                layer=slots.COUNTS_LAYER,
                size_factor_key=job.size_factor_key or self._total_counts,
            )
        except (ImportError, ValueError) as reason:  # of a study that cannot answer this
            self.untested = str(reason)
            self.steps.announce(f"  not tested: {reason}")
            return
        write_csv(self.out / "group_effects.csv", self.group_effects.table, index=False)

    def _write_counterfactual_means(self) -> None:
        job, trained = self.job, self.models["re"]
        self.means = shifts_with_intervals(
            trained, self.adata, job.transform_batch, job.labels_key, job.seed
        )
        self._write_cells(self.means, "counterfactual_means.h5ad")

    def strongest_shifts(self) -> dict[str, pd.DataFrame]:
        """Genes with the largest counterfactual shifts to each target."""
        if self.means is None:
            return {}
        targets = self.means.obs["target"].unique()
        return {target: strongest_shifts(self.means, target) for target in targets}

    def _write_cells(self, adata: AnnData, name: str) -> None:
        write_whole(self.out / name, lambda file: adata.write_h5ad(file, compression="gzip"))

    def _draw(self) -> None:
        job = self.job
        shifts = self.strongest_shifts()
        if any(map(len, shifts.values())):
            self._save("counterfactuals", draw_shifts, shifts)
        self.steps.announce("  UMAPs")
        self._save("embeddings", pl.embeddings, self.adata, self.embeddings, self.colors)
        for name, trained in self.models.items():
            if len(trained.history["train_loss"]) > 1:
                self._save(f"training_{name}", pl.training, trained)
        if self.confounding is not None:
            for claim in self.claims:
                name, pair = self.confounding_figure(claim).stem, (job.batch_key, claim)
                self._save(name, pl.confounding, self.confounding, pair)
        if self.group_effects is not None:
            self._save("group_effects", self._draw_group_effects, self.group_effects)
        self.steps.announce("  effects of batches")
        self._save("batch_effects", self._draw_effects)
        if find_spec("ot") is None:
            self.steps.announce(f"  no genomaps, which need POT. {how_to_install('genomap')}")
        else:
            self.steps.announce("  genomaps")
            self._save("genomaps", self._draw_genomaps)

    def _save(self, name: str, draw: Callable[..., Figure | Axes], *what: Any) -> None:
        with self.steps.attempt(f"figures/{name}.png"):
            draw_and_save(self.figures / f"{name}.png", draw, *what)

    def _draw_group_effects(self, found: tl.GroupEffects) -> Figure:
        gene = found.table.sort_values("p_value")["variable"].iloc[0]
        return pl.group_effects(found, gene, str(self.job.condition_key))

    def _draw_effects(self) -> Figure:
        random_effects = self.models["re"]
        n_cells = int(np.clip(N_CELLS / len(random_effects.batch_names), 20, 200))
        return pl.batch_effects(random_effects, n_samples=N_DRAWS, n_cells=n_cells)

    def _draw_genomaps(self) -> Figure:
        job, batches = self.job, self.adata.obs[self.job.batch_key].astype(str)
        largest = list(batches.value_counts().index[:N_DRAWN])
        fixed, random = self.models.values()
        stack = tl.projection_stack(
            self.adata, fixed, random, N_STACKED, labels_key=job.labels_key, batches=largest
        )
        # The layout takes as long as the cube of the number of genes.
        most_variable = np.argsort(-stack.var["sd"].to_numpy(), kind="stable")[:N_MAPPED]
        stack = stack[:, np.sort(most_variable)].copy()
        tl.genomap_layout(stack, progress=False)
        return pl.genomap_panel(stack, N_DRAWN)

    def conclude(self, **extra: Any) -> dict[str, Any]:
        """Write ``run.json``: parameters, versions, seed and timings; return what it holds."""
        models = {
            name: {
                "class": type(trained).__name__,
                "epochs": len(trained.history["train_loss"]),
                "best_epoch": trained.best_epoch_,
                "still_improving": still_improving(trained),
                "settings": trained.init_params_,
            }
            for name, trained in self.models.items()
        }
        file, parameters = self.out / "run.json", asdict(self.job)
        extra = {"models": models, "findings": self.findings} | extra
        return write_record(file, parameters, self.adata, self.steps, **extra)
