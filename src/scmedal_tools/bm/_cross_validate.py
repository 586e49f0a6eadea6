"""Cross-validation of embeddings: scores, what they predict, and the controls beside them."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from scmedal_tools import __version__, ext
from scmedal_tools._checks import check_log_normalised, check_obs
from scmedal_tools.pp._preprocess import variable_genes
from scmedal_tools.train import cross_validation_folds

from ._checkpoints import Checkpoints
from ._conclusion import conclusion, conclusion_of_votes
from ._embedders import (
    COMPARATORS,
    ONE_EPOCH,
    OWN_MODELS,
    PERMUTED,
    RE,
    RE_CONTROLS,
    Fold,
)
from ._folds import summarise_folds
from ._mixing_classifier import BATCH_LABEL, CHANCE, SEPARATOR, classify, feature_sets, score_votes
from ._scores import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scmedal_tools.train._folds import Scheme

TEST = "test"
COLUMNS = ("fold", "split", "embedding", "of", "metric", "value", "control", "joint", "seed")


@dataclass(frozen=True)
class CrossValidation:
    """Result of :func:`cross_validate`."""

    table: pd.DataFrame
    """Every score of every fold."""
    votes: pd.DataFrame
    """Votes of the cells of each batch, where batches were held out and have one label."""
    rare: pd.Series
    """Cells of the combinations of batch and cell type that are not in every test set."""
    settings: dict[str, Any]
    """What the results depend on: folds, seeds, genes, models and versions."""

    def summary(self) -> pd.DataFrame:
        """Mean and 95% interval over the folds; see :func:`summarise_folds`."""
        return summarise_folds(self.table.drop(columns="seed"))

    def votes_summary(self) -> pd.DataFrame:
        """Accuracy over whole batches that were held out; see :func:`score_votes`."""
        return score_votes(self.votes, seed=self.settings["seed"])

    @property
    def conclusions(self) -> dict[str, str]:
        """For each target, whether the gain from RE exceeds what the batch label alone gives."""
        models = self.settings["models"]
        if RE not in models or set(models) <= {RE, *RE_CONTROLS}:
            return {}
        said = {key: conclusion(self.table, key) for key in self.settings["target_keys"]}
        if len(self.votes):
            judged = self.votes_summary()
            for key in judged["of"].unique():
                said[key] += " " + conclusion_of_votes(judged[judged["of"] == key])
        return said

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{sentence}</p>" for sentence in self.conclusions.values())
        return said + self.summary()._repr_html_()


def cross_validate(
    adata: AnnData,
    batch_key: str,
    labels_key: str,
    target_keys: Sequence[str] = (),
    *,
    models: Sequence[str] | Mapping[str, str | Callable] = ("pca", "FE", "RE"),
    n_folds: int = 5,
    scheme: Scheme = "cells",
    folds: Sequence[int] | None = None,
    n_top_genes: int | None = None,
    settings: Mapping[str, dict[str, Any]] | None = None,
    controls: bool = True,
    max_cells: int | None = 10_000,
    scib: bool = False,
    n_trees: int = 100,
    n_jobs: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
) -> CrossValidation:
    """Judge embeddings on cells, or donors, that they were not fitted to (scMEDAL, section 4.3).

    In every fold genes are selected, expression is scaled and models are fitted on the training
    cells; the test cells are scored by :func:`scores` and, for each target, as in
    :func:`mixing_classifier`: every embedding alone, beside RE and beside the batch label. Joint
    methods (``smt.ext.JOINT``) see the test cells too, as in the paper; column ``joint`` says so.

    Parameters
    ----------
    adata
        Cells with log-normalised expression of *all* genes that may be selected, and raw counts in
        ``layers["counts"]`` for scVI and scANVI (as ``pp.preprocess(adata, n_top_genes=None)``
        leaves them). Not modified.
    batch_key, labels_key
        Columns with the batches and the cell types.
    target_keys
        Columns to predict, for example a diagnosis, or the cell types.
    models
        What to compare: ``"FE"``, ``"FEC"``, ``"RE"``, names of comparators in ``smt.ext``, or of
        embeddings in ``adata.obsm`` (whose fit this function cannot see: it may have used the
        test cells). A dictionary gives them other names, or has functions
        ``f(adata, batch_key, labels_key, splits, seed) -> array (n_cells, n_latent)``.
    n_folds, scheme
        See :func:`scmedal_tools.train.cross_validation_folds`. With ``scheme="donors"`` whole
        batches are held out, balanced for the targets that are constant within batches. RE has no
        effects of such a batch: in the row ``RE`` no cell has effects, so that training and test
        cells are alike; in ``RE, own effects in training cells`` they are not.
    folds
        Which folds to run, for example ``[0]`` for a first look; ``None`` for all.
    n_top_genes
        Variable genes to select in each fold; ``None`` for all genes.
    settings
        Arguments of single models, for example ``{"scvi": {"max_epochs": 50}, "RE": {"preset":
        "paper"}}``; those of RE hold for its controls too.
    controls
        Add what RE is held against: RE with wrong batch labels for the test cells, trained on
        permuted labels, and after one epoch.
    max_cells, scib
        See :func:`scores`.
    n_trees
        Trees of each random forest.
    n_jobs
        Parts of the work, each one model in one fold, that run side by side, in joblib's backend:
        ``with joblib.parallel_config("dask"): ...`` sends them to a Dask cluster, whose workers
        have to see the folder ``out``.
    seed
        Seed of the folds; fold ``i`` trains with seed ``seed + i``.
    out
        Folder for the results of the parts. A call that was interrupted goes on from there;
        ``table.csv``, ``votes.csv`` and ``summary.csv`` are written at the end.
    progress
        Show a progress bar.

    Returns
    -------
    CrossValidation
        ``table``, with columns ``fold``, ``split``, ``embedding``, ``of``, ``metric``, ``value``,
        ``control``, ``joint`` and ``seed``, and what is made of it.

    Raises
    ------
    ValueError
        If a column, model or fold does not exist, the expression is not log-normalised, the folds
        cannot be made, or ``out`` has results of other settings.

    Examples
    --------
    >>> result = cross_validate(
    ...     adata, "donor", "cell_type", ["diagnosis"], models=["pca", "harmony", "FE", "RE"]
    ... )  # doctest: +SKIP
    >>> print(*result.conclusions.values())  # doctest: +SKIP
    """
    check_log_normalised(adata)
    for key in target_keys:
        check_obs(adata, key, "target_keys")
    check_obs(adata, batch_key)
    models = _methods(models, adata, controls)
    levels = adata.obs.groupby(batch_key, observed=True)[list(target_keys)].nunique()
    of_batches = [key for key in target_keys if (levels[key] == 1).all()]
    made = cross_validation_folds(
        adata,
        batch_key,
        labels_key,
        n_folds=n_folds,
        scheme=scheme,
        condition_keys=of_batches if scheme == "donors" else (),
        seed=seed,
    )
    chosen = list(range(n_folds)) if folds is None else list(folds)
    if not set(chosen) <= set(range(n_folds)):
        raise ValueError(f"folds={chosen}: there are folds 0 to {n_folds - 1}.")
    about = {
        "batch_key": batch_key,
        "labels_key": labels_key,
        "target_keys": list(target_keys),
        "models": {k: "a function" if callable(m) else m for k, m in models.items()},
        "n_folds": n_folds,
        "scheme": scheme,
        "n_top_genes": n_top_genes,
        "settings": dict(settings or {}),
        "max_cells": max_cells,
        "scib": scib,
        "n_trees": n_trees,
        "seed": seed,
        "scmedal_tools": __version__,
        "data": _fingerprint(adata),
    }
    with tempfile.TemporaryDirectory() as scratch:
        store = Checkpoints(Path(out) if out is not None else Path(scratch), about)
        run = _Run(adata, models, {i: made.splits[i] for i in chosen}, about, store)
        run.execute([*run.embeddings()], n_jobs, progress, "Embeddings")
        run.execute([*run.judgements()], n_jobs, progress, "Scores")
        table, votes = run.collect()
        result = CrossValidation(table, votes, made.rare, about | {"folds": chosen})
        if out is not None:
            for name in ("table", "votes"):
                store.save_table(f"{name}.csv", getattr(result, name))
            store.save_table("summary.csv", result.summary())
    return result


class _Run:
    """All parts of a cross-validation, each of which leaves a file."""

    def __init__(self, adata, models, splits, about: dict[str, Any], store: Checkpoints):
        self.adata, self.models, self.splits = adata, models, splits
        self.about, self.store = about, store

    def embeddings(self) -> Iterator[tuple[str, Callable, tuple]]:
        for i in self.splits:
            for name in self.models:
                yield _file(i, name, "npz"), self.embed, (i, name)

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
        latents = self._fold(i).embed(name, self.models[name], settings)
        self.store.save_arrays(_file(i, name, "npz"), latents)

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
        random_effects = RE if RE in latents else None
        features = [*feature_sets(latents, random_effects, batches, splits[0]), *controls.items()]
        mixing = classify(
            iter(features), self.adata, target, splits, batches,
            n_trees=self.about["n_trees"], n_jobs=1, seed=self.about["seed"] + i,
        )  # fmt: skip
        self.store.save_table(_file(i, f"votes {target}", "csv"), mixing.votes)
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
        joint = {name for name, method in self.models.items() if method in ext.JOINT}
        table["control"] = [not control.isdisjoint(names) for names in parts]
        table["joint"] = [not joint.isdisjoint(names) for names in parts]
        return table[list(COLUMNS)], pd.concat(votes) if votes else pd.DataFrame()

    def _fold(self, i: int) -> Fold:
        about, cells = self.about, self.adata
        if about["n_top_genes"] is not None:
            genes = variable_genes(
                cells[self.splits[i][0]], about["n_top_genes"], batch_key=about["batch_key"]
            )
            cells = cells[:, genes].copy()
        return Fold(
            cells, about["batch_key"], about["labels_key"], self.splits[i], about["seed"] + i
        )

    def _latents(self, i: int) -> dict[str, np.ndarray]:
        latents = {}
        for name in self.models:
            latents |= self.store.arrays(_file(i, name, "npz"))
        return latents


def _methods(
    models: Sequence[str] | Mapping[str, str | Callable], adata: AnnData, controls: bool
) -> dict[str, str | Callable]:
    """What is compared, by name."""
    models = dict(models) if hasattr(models, "items") else {name: name for name in models}
    if not models:
        raise ValueError("models is empty: name what to compare, for example ['pca', 'FE', 'RE'].")
    known = {*OWN_MODELS, *COMPARATORS, *adata.obsm}
    unknown = [
        method for method in models.values() if not callable(method) and method not in known
    ]
    if unknown:
        raise ValueError(
            f"models has {unknown}, which are neither models ({', '.join(OWN_MODELS)}), nor "
            f"comparators ({', '.join(sorted(COMPARATORS))}), nor in adata.obsm "
            f"({', '.join(adata.obsm)})."
        )
    if any(method == RE and name != RE for name, method in models.items()):
        raise ValueError("RE keeps its name: what is held against it is named after it.")
    taken = sorted({BATCH_LABEL, CHANCE, *RE_CONTROLS} & set(models))
    taken += [name for name in models if SEPARATOR in name or "/" in name]
    if taken:
        raise ValueError(f"{taken} are not names for models: the results use them, ' + ' or '/'.")
    if controls and RE in models:
        models |= {PERMUTED: PERMUTED, ONE_EPOCH: ONE_EPOCH}
    return models


def _file(fold: int, name: str, ending: str) -> str:
    return f"fold {fold}/{name}.{ending}"


def _fingerprint(adata: AnnData) -> dict[str, Any]:
    """What tells these cells from others."""
    names = hashlib.sha256("\n".join([*adata.obs_names, *adata.var_names]).encode())
    total = float(adata.X.sum(dtype=np.float64))
    return {"shape": list(adata.shape), "names": names.hexdigest()[:16], "sum": round(total, 2)}
