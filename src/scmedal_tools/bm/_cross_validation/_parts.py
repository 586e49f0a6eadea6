"""The parts of a cross-validation: one model in one fold, or one judgement of a fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed

from scmedal_tools import ext
from scmedal_tools._progress import tqdm
from scmedal_tools.bm._scores._scores import draw_cells, scores
from scmedal_tools.model import save_whole
from scmedal_tools.pp import variable_genes

from ._embedders import PERMUTED, RE, RE_CONTROLS, Fold
from ._mixing_classifier import BATCH_LABEL, CHANCE, SEPARATOR, classify, feature_sets
from ._write_tables import file_stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ._checkpoints import Checkpoints

TEST = "test"
EPOCHS = "epochs"
SAVE_MODELS = "save_models"
SCORE_COLUMNS = ("fold", "split", "embedding", "of", "metric", "value", "control", "joint", "seed")


class Parts:
    """All parts of a cross-validation, each of which leaves a file."""

    def __init__(
        self,
        adata: AnnData,
        models: dict[str, str | Callable],
        splits: Mapping[int, Sequence[np.ndarray]],
        of_batches: Sequence[str],
        about: dict[str, Any],
        store: Checkpoints,
    ):
        self.adata, self.models, self.splits = adata, models, splits
        self.of_batches, self.about, self.store = of_batches, about, store

    def embeddings(self) -> Iterator[tuple[str, Callable, tuple]]:
        for i in self.splits:
            for name in self.models:
                yield _file(i, f"embedding {name}", "npz"), self.embed, (i, name)

    def judgements(self) -> Iterator[tuple[str, Callable, tuple]]:
        for i in self.splits:
            yield _file(i, "scores", "csv"), self.score, (i,)
            for target in self.about["target_keys"]:
                yield _file(i, f"predict {target}", "csv"), self.predict, (i, target)

    def execute(self, parts: list[tuple], n_jobs: int, progress: bool, what: str) -> None:
        """Do what is not done yet, side by side."""
        left = [delayed(function)(*arguments) for file, function, arguments in parts
                if not self.store.has(file)]  # fmt: skip
        try:
            parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
        except ValueError:  # some backends return all at the end only
            parallel = Parallel(n_jobs=n_jobs)
        bar = tqdm(
            total=len(parts), initial=len(parts) - len(left), desc=what, disable=not progress
        )
        with bar:
            for _ in parallel(left):
                bar.update()

    def embed(self, i: int, name: str) -> None:
        settings = self.about["settings"]
        settings = settings.get(name, settings.get(RE, {}) if name in RE_CONTROLS else {})
        method = self.models[name]
        is_there = isinstance(method, str) and method in self.adata.obsm
        fold = self._fold(i, self.adata if is_there else self._cells(i))
        made = fold.embed(name, method, settings)
        if made.epochs is not None:
            training = {EPOCHS: np.array(made.epochs), **(made.history or {})}
            self.store.save_arrays(_file(i, f"training {name}", "npz"), training)
        if made.model is not None and self.about.get(SAVE_MODELS):
            save_whole(made.model, model_folder(self.store.folder, i, name))
        # Last, as it says that this part is finished.
        self.store.save_arrays(_file(i, f"embedding {name}", "npz"), made.latents)

    def score(self, i: int) -> None:
        about, latents = self.about, self._latents(i)
        cells = AnnData(obs=self.adata.obs, obsm=latents)
        table = scores(
            cells, list(latents), about["batch_key"], about["labels_key"],
            indices=self.splits[i][2], max_cells=about["max_cells"], scib=about["scib"],
            seed=about["seed"],
        )  # fmt: skip
        self.store.save_table(_file(i, "scores", "csv"), table)

    def predict(self, i: int, target: str) -> None:
        latents, splits = self._latents(i), self.splits[i]
        batches = self.adata.obs[self.about["batch_key"]].astype(str).to_numpy()
        controls = {name: latents.pop(name) for name in RE_CONTROLS if name in latents}
        added = [RE] if RE in latents else []
        if PERMUTED in controls:
            added.append(PERMUTED)
            latents[PERMUTED] = controls.pop(PERMUTED)
        features = [*feature_sets(latents, added, batches, splits[0]), *controls.items()]
        mixing = classify(
            iter(features), self.adata, target, splits, batches,
            n_trees=self.about["n_trees"], n_jobs=1, seed=self.about["seed"] + i,
        )  # fmt: skip
        votes = mixing.votes if target in self.of_batches else mixing.votes.iloc[:0]
        self.store.save_table(_file(i, f"votes {target}", "csv"), votes)
        self.store.save_table(_file(i, f"predict {target}", "csv"), mixing.table)

    def collect(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Put the tables of all parts together."""
        tables, votes = [], []
        for i in self.splits:
            names = ["scores", *(f"predict {target}" for target in self.about["target_keys"])]
            for name in names:
                table = self.store.table(_file(i, name, "csv"))
                tables.append(table.assign(fold=i, split=TEST, seed=self.about["seed"] + i))
            if self.about["scheme"] == "donors":
                votes += [
                    self.store.table(_file(i, f"votes {target}", "csv")).assign(fold=i)
                    for target in self.about["target_keys"]
                ]
        table = pd.concat(tables, ignore_index=True)
        parts = table["embedding"].str.split(SEPARATOR, regex=False)
        control = {BATCH_LABEL, CHANCE, *RE_CONTROLS}
        seen = {*ext.JOINT, *self.adata.obsm}
        joint = {name for name, m in self.models.items() if isinstance(m, str) and m in seen}
        table["control"] = [not control.isdisjoint(names) for names in parts]
        table["joint"] = [not joint.isdisjoint(names) for names in parts]
        votes = [table for table in votes if len(table)]
        votes = pd.concat(votes, ignore_index=True) if votes else pd.DataFrame()
        return table[list(SCORE_COLUMNS)], votes

    def trainings(self) -> tuple[pd.DataFrame, dict[str, list[dict[str, pd.DataFrame]]]]:
        """Epochs of all that was trained, and the losses of the package's own models."""
        epochs, histories = [], {}
        for name in self.models:
            files = {i: _file(i, f"training {name}", "npz") for i in self.splits}
            found = {i: self.store.arrays(f) for i, f in files.items() if self.store.has(f)}
            for i, curves in found.items():
                n_epochs = int(curves.pop(EPOCHS))
                epochs.append({"fold": i, "embedding": name, "epochs": n_epochs})
            if all(found.values()) and found:
                histories[name] = [
                    {term: _as_curve(term, values) for term, values in curves.items()}
                    for curves in found.values()
                ]
        return pd.DataFrame(epochs, columns=["fold", "embedding", "epochs"]), histories

    def test_cells(self) -> AnnData:
        """Cells that are scored in the first fold, with all embeddings but the controls'."""
        first, (*_, test) = next(iter(self.splits.items()))
        test = draw_cells(self.adata.n_obs, test, self.about["max_cells"], self.about["seed"])
        latents = self._latents(first)
        shown = {name: x[test] for name, x in latents.items() if name not in RE_CONTROLS}
        return AnnData(obs=self.adata.obs.iloc[test].copy(), obsm=shown)

    def _fold(self, i: int, cells: AnnData) -> Fold:
        about = self.about
        keys = (about["batch_key"], about["labels_key"])
        return Fold(cells, *keys, self.splits[i], about["seed"] + i)

    def _cells(self, i: int) -> AnnData:
        """Cells with the genes that are selected among the training cells of a fold."""
        n_top_genes, file = self.about["n_top_genes"], _file(i, "genes", "npz")
        if n_top_genes is None:
            return self.adata
        if not self.store.has(file):
            train = self.adata[self.splits[i][0]]
            chosen = variable_genes(train, n_top_genes, batch_key=self.about["batch_key"])
            self.store.save_arrays(file, {"genes": chosen})
        return self.adata[:, self.store.arrays(file)["genes"]].copy()

    def _latents(self, i: int) -> dict[str, np.ndarray]:
        latents: dict[str, np.ndarray] = {}
        for name in self.models:
            latents |= self.store.arrays(_file(i, f"embedding {name}", "npz"))
        return latents


def model_folder(out: Path, fold: int, name: str) -> Path:
    """Folder of a model that was saved with ``save_models``."""
    return out / f"fold {fold}" / f"model {name}"


def _as_curve(term: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({term: values}, index=pd.RangeIndex(len(values), name="epoch"))


def _file(fold: int, name: str, ending: str) -> str:
    return f"fold {fold}/{file_stem(name)}.{ending}"
