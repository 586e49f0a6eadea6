"""Cross-validation of embeddings: scores, predictions, and controls."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scmedal_tools._data import check_argument, fingerprint, whole, write_csv
from scmedal_tools._docs import with_shared_parts
from scmedal_tools.bm._scores._scores import draw_cells
from scmedal_tools.train import cross_validation_folds

from ._checkpoints import Checkpoints
from ._conclusion import conclusion, conclusion_of_votes
from ._embedders import RE, RE_CONTROLS
from ._input import as_list, check_folds, check_input, layers_used, methods, name_and_version
from ._mixing_classifier import score_votes
from ._parts import SAVE_MODELS, Parts
from ._summarise_folds import summarise_folds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

    from scmedal_tools.train import Scheme

# Whose versions the results depend on.
PACKAGES: Final = ("scmedal-tools", "scvi-tools", "torch", "scikit-learn")


@dataclass(frozen=True)
class CrossValidation:
    """Result of :func:`cross_validate`.

    Examples
    --------
    Of ``models=["pca"]`` and the target ``"condition"``, in two folds of whole donors:

    >>> result.table["embedding"].unique().tolist()
    ['pca', 'chance', 'batch label', 'pca + batch label']
    >>> result.settings["scheme"]
    'donors'
    """

    table: pd.DataFrame
    """Every score of every fold."""
    votes: pd.DataFrame
    """Votes of the cells of each batch, where batches were held out and have one label."""
    rare: pd.Series
    """Cells of the combinations of batch and cell type that are not in every test set."""
    settings: dict[str, Any]
    """What the results depend on, as folds, seeds, genes, models and versions."""
    test_cells: AnnData
    """Cells that are scored in the first fold, each model's embedding of them in ``obsm``; for
    pictures, as by :func:`scmedal_tools.pl.embeddings`."""
    epochs: pd.DataFrame
    """Epochs that each trained model ran in each fold."""
    histories: dict[str, list[dict[str, pd.DataFrame]]]
    """Of FE, FEC, RE and its controls the losses of each fold, for
    :func:`scmedal_tools.pl.training`."""

    def summary(self) -> pd.DataFrame:
        """Mean and 95% interval over the folds; see :func:`summarise_folds`.

        Returns
        -------
        pandas.DataFrame
            A row for each embedding, ``of`` and ``metric``, with ``mean``, ``lower``, ``upper``
            and the number ``n`` of folds.

        Examples
        --------
        >>> summary = result.summary()
        >>> summary.query("metric == 'accuracy'")["embedding"].tolist()
        ['chance', 'batch label', 'pca', 'pca + batch label']
        """
        return summarise_folds(self.table.drop(columns="seed"))

    def votes_summary(self) -> pd.DataFrame:
        """Accuracy over whole batches that were held out; see :func:`score_votes`.

        Returns
        -------
        pandas.DataFrame
            A row for each embedding and target that is constant within batches.

        Examples
        --------
        >>> result.votes_summary()[["embedding", "of", "n_batches"]]
                   embedding         of  n_batches
        0        batch label  condition          4
        1                pca  condition          4
        2  pca + batch label  condition          4
        """
        return score_votes(self.votes, seed=self.settings["seed"])

    @property
    def conclusions(self) -> dict[str, str]:
        """For each target, whether the gain from RE exceeds what the batch label alone gives."""
        models = self.settings["models"]
        said: dict[str, str] = {}
        if RE not in models or set(models) <= {RE, *RE_CONTROLS}:
            return said
        judged = self.votes_summary() if len(self.votes) else None
        for key in self.settings["target_keys"]:
            said[key] = conclusion(
                self.table, key, known_batches=self.settings["scheme"] == "cells"
            )
            if judged is not None and key in set(judged["of"]):
                said[key] += " " + conclusion_of_votes(judged[judged["of"] == key])
        return said

    def _repr_html_(self) -> str:
        said = (escape(sentence, quote=False) for sentence in self.conclusions.values())
        return "".join(f"<p>{sentence}</p>" for sentence in said) + self.summary()._repr_html_()


@with_shared_parts
def cross_validate(
    adata: AnnData,
    batch_key: str,
    labels_key: str,
    target_keys: Sequence[str] = (),
    *,
    models: Sequence[str] | Mapping[str, str | Callable] = ("pca", "FE", "RE"),
    n_folds: int = 5,
    scheme: Scheme = "cells",
    stratify_keys: Sequence[str] | None = None,
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
    save_models: bool = False,
    progress: bool = True,
) -> CrossValidation:
    """Evaluate batch correction on cells, or donors, not used to fit it (scMEDAL, section 4.3).

    In every fold genes are selected, expression is scaled and models are fitted on the training
    cells; the test cells are scored by :func:`scores` and, for each target, as in
    :func:`mixing_classifier`: every embedding alone, beside RE and beside the batch label. Joint
    methods (``smt.ext.JOINT``) see the test cells too, as in the paper, and embeddings in ``obsm``
    were fitted before, perhaps to them: column ``joint`` marks both.

    Parameters
    ----------
    adata
        Cells with log-normalised expression of *all* genes that may be selected, and raw counts in
        ``layers["counts"]`` for scVI and scANVI (as ``pp.preprocess(adata, n_top_genes=None)``
        leaves them). Not modified.
    %(columns)s
    target_keys
        Columns to predict, for example a diagnosis, or the cell types.
    models
        What to compare: ``"FE"``, ``"FEC"``, ``"RE"``, names of comparators in ``smt.ext``, or of
        embeddings in ``adata.obsm``. A dictionary gives them other names, or has functions
        ``f(adata, batch_key, labels_key, splits, seed) -> array (n_cells, n_latent)``, which get
        all cells with their types and have to keep to the training cells themselves. With ``out``
        a function needs an attribute ``version``, a text that you change with the function.
        Figures, sentences and tables for papers write the names of comparators as readers know
        them ("PCA" for ``"pca"``), also where a function of yours has such a name: give
        it another.
    n_folds, scheme
        See :func:`scmedal_tools.train.cross_validation_folds`. With ``scheme="donors"`` whole
        batches are held out. RE has no
        effects of such a batch: in the row ``RE`` no cell has effects, so that training and test
        cells are comparable; in ``RE, own effects in training cells`` they are not.
    stratify_keys
        With ``scheme="donors"``: columns, constant within each batch, of which every fold gets
        batches of each combination. By default the targets that are constant within batches; name
        one of these if there are too few batches for all, ``[]`` for none.
    folds
        Which folds to run, for example ``[0]`` for a first look; ``None`` for all.
    n_top_genes
        Variable genes to select in each fold; ``None`` for all genes.
    settings
        Arguments of single models, for example ``{"scvi": {"max_epochs": 50}, "RE": {"preset":
        "paper"}}``; those of RE hold for its controls too.
    controls
        Add what RE is compared with: RE with wrong batch labels for the test cells, trained on
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
    save_models
        Save the trained FE, FEC and RE of every fold in ``out``, for example in ``fold 0/model
        RE``, to be loaded with the genes of the fold: ``SCMEDAL_RE.load(folder, adata[:,
        genes].copy())``, where ``SCMEDAL_RE.load(folder, False).gene_names`` are the genes.
    %(progress)s

    Returns
    -------
    CrossValidation
        ``table``, with columns ``fold``, ``split``, ``embedding``, ``of``, ``metric``, ``value``,
        ``control``, ``joint`` and ``seed``, and what is made of it.

    Raises
    ------
    ValueError
        If a column, model or fold does not exist, the expression is not log-normalised, the folds
        cannot be made or judged, or ``out`` has results of other settings or data.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> result = smt.bm.cross_validate(
    ...     adata,
    ...     "donor",
    ...     "cell_type",
    ...     ["condition"],
    ...     models=["pca"],
    ...     folds=[0],
    ...     n_trees=10,
    ...     progress=False,
    ... )
    >>> summary = result.summary().query("metric == 'accuracy'")
    >>> summary[["embedding", "control"]]
                embedding  control
    9              chance     True
    11        batch label     True
    13                pca    False
    15  pca + batch label     True
    """
    check_argument("n_top_genes", n_top_genes, whole(), or_none=True)
    check_argument("n_trees", n_trees, whole())
    target_keys = as_list(target_keys)
    made_of = methods(models, adata, controls)
    check_input(adata, batch_key, labels_key, target_keys, made_of, settings, scib)
    of_batches = _constant_in_batches(adata.obs, batch_key, target_keys)
    if scheme != "donors":
        stratify_keys = []
    elif stratify_keys is None:
        stratify_keys = of_batches
    made = cross_validation_folds(
        adata,
        batch_key,
        labels_key,
        n_folds=n_folds,
        scheme=scheme,
        condition_keys=as_list(stratify_keys),
        seed=seed,
    )
    if save_models and out is None:
        raise ValueError("save_models=True needs a folder to save them in: pass out.")
    chosen = _chosen_folds(folds, n_folds)
    splits = {i: made.splits[i] for i in chosen}
    scored = {i: draw_cells(adata.n_obs, s[2], max_cells, seed) for i, s in splits.items()}
    check_folds(adata.obs, [batch_key, labels_key], target_keys, splits, scored, scib)
    about = {
        "batch_key": batch_key,
        "labels_key": labels_key,
        "target_keys": target_keys,
        "models": {n: name_and_version(n, m, kept=out is not None) for n, m in made_of.items()},
        "n_folds": n_folds,
        "scheme": scheme,
        "stratify_keys": as_list(stratify_keys),
        "n_top_genes": n_top_genes,
        "settings": dict(settings or {}),
        "max_cells": max_cells,
        "scib": scib,
        "n_trees": n_trees,
        "seed": seed,
        "versions": {name: version(name) for name in PACKAGES},
        "data": _data_used(adata, [batch_key, labels_key, *target_keys], made_of, settings),
    }
    if save_models:  # only then: other results are the same with and without
        about[SAVE_MODELS] = True
    with tempfile.TemporaryDirectory() as scratch:
        store = Checkpoints(Path(out) if out is not None else Path(scratch), about)
        run = Parts(adata, made_of, splits, of_batches, about, store)
        run.execute([*run.embeddings()], n_jobs, progress, "Embeddings")
        run.execute([*run.judgements()], n_jobs, progress, "Scores")
        table, votes = run.collect()
        rare = made.rare if scheme == "cells" else made.rare.iloc[:0]
        about |= {"folds": chosen}
        result = CrossValidation(table, votes, rare, about, run.test_cells(), *run.trainings())
        if out is not None:
            _write(result, store.folder)
    return result


def _constant_in_batches(
    obs: pd.DataFrame, batch_key: str, target_keys: Sequence[str]
) -> list[str]:
    """Targets of which each batch has one value."""
    levels = obs.groupby(batch_key, observed=True)[list(target_keys)].nunique()
    return [key for key in target_keys if (levels[key] == 1).all()]


def _chosen_folds(folds: Sequence[int] | None, n_folds: int) -> list[int]:
    chosen = range(n_folds) if folds is None else folds
    if not isinstance(chosen, Iterable) or not chosen or not set(chosen) <= set(range(n_folds)):
        raise ValueError(
            f"folds={folds!r}: name some of the folds 0 to {n_folds - 1} in a list, such as [0]."
        )
    return list(chosen)


def _data_used(
    adata: AnnData,
    columns: Sequence[str],
    models: Mapping[str, str | Callable],
    settings: Mapping[str, dict[str, Any]] | None,
) -> dict[str, str]:
    """Digests of all that the results are made of."""
    methods_used = models.values()
    embeddings = [m for m in methods_used if isinstance(m, str) and m in adata.obsm]
    layers = layers_used(models, settings)
    if any(callable(method) for method in methods_used):
        layers = [name for name in adata.layers if name]  # a function may read any
    return fingerprint(adata, list(dict.fromkeys(columns)), embeddings, layers)


def _write(result: CrossValidation, folder: Path) -> None:
    tables = {
        "table": result.table,
        "votes": result.votes,
        "summary": result.summary(),
        "rare": result.rare.rename("n_cells").reset_index(),
    }
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table, index=False)
