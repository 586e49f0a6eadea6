"""Prediction of a cell's condition from embeddings, alone, beside RE and the batch label."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from scmedal_tools._data import (
    check_argument,
    check_embeddings,
    check_obs,
    embedding_of,
    slots,
    whole,
)
from scmedal_tools._relabelled import relabelled
from scmedal_tools.train import check_external_indexing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from anndata import AnnData

CLASSIFICATION_METRICS = {"accuracy": accuracy_score, "balanced_accuracy": balanced_accuracy_score}

BATCH_LABEL: Final = "batch label"
CHANCE: Final = "chance"
SEPARATOR: Final = " + "


class Mixing(NamedTuple):
    """Result of :func:`mixing_classifier`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> pca = smt.ext.pca(adata, batch_key="donor", n_latent=10)
    >>> splits = smt.train.stratified_split(adata.obs, ["donor", "cell_type"])
    >>> table, votes = smt.bm.mixing_classifier(
    ...     adata, [pca], "condition", splits, batch_key="donor", random_effects=None, n_trees=10
    ... )
    >>> list(votes.columns)
    ['embedding', 'of', 'batch', 'truth', 'vote', 'share', 'n_cells']
    """

    table: pd.DataFrame
    """Columns ``embedding``, ``of``, ``metric`` and ``value``."""
    votes: pd.DataFrame
    """A row for each embedding and batch with test cells, with the mean vote of its cells."""


def mixing_classifier(
    adata: AnnData,
    embeddings: Sequence[str],
    target_key: str,
    splits: Sequence[np.ndarray],
    *,
    batch_key: str,
    random_effects: str | None = slots.RE_LATENT,
    n_trees: int = 100,
    n_jobs: int = 1,
    seed: int = 0,
) -> Mixing:
    """Predict a label of the cells from embeddings (scMEDAL, section 4.4.3, Table 1).

    A random forest on standardised embeddings, fitted on the training cells. Each embedding is
    tried alone, beside the random effects, and, which the paper does not do, beside the batch
    label itself; the batch label is also tried alone. Where every batch has one label, as a donor
    has one diagnosis, the batch label predicts it without error in other cells of the same
    batches: random effects that gain no more than the label show nothing but the batch.

    Parameters
    ----------
    adata
        Cells with embeddings in ``obsm``.
    embeddings
        Names of the embeddings.
    target_key
        Column of ``adata.obs`` to predict.
    splits
        Positions of the training, validation and test cells; the second are not used. See
        :func:`scmedal_tools.train.cross_validation_folds`.
    batch_key
        Column with the batches. Batches without training cells have no label of their own.
    random_effects
        Name of RE's embedding; ``None`` for none.
    n_trees, n_jobs, seed
        Trees of each forest, processes to grow them, and their seed.

    Returns
    -------
    Mixing
        ``table``: accuracy and balanced accuracy on the test cells. ``"chance"`` is what guesses
        in the proportions of the training cells are expected to score. ``votes``: for each batch
        with test cells that has one label, that label (``truth``), the label with the largest
        mean vote of its cells (``vote``), the mean vote of the truth (``share``) and ``n_cells``.

    Raises
    ------
    KeyError
        If an embedding does not exist.
    ValueError
        If a column does not exist, an embedding has gaps, the splits overlap, or the training
        cells have one label only.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> pca = smt.ext.pca(adata, batch_key="donor", n_latent=10)
    >>> key = smt.tl.embed(adata, model)
    >>> splits = smt.train.stratified_split(adata.obs, ["donor", "cell_type"])
    >>> table, votes = smt.bm.mixing_classifier(
    ...     adata, [pca], "condition", splits, batch_key="donor", random_effects=key, n_trees=10
    ... )
    >>> table["embedding"].unique()[2:5].tolist()
    ['X_pca', 'X_pca + X_scmedal_re', 'X_pca + batch label']
    """
    check_obs(adata, batch_key)
    check_argument("n_trees", n_trees, whole())
    check_embeddings(adata, embeddings, "embeddings")
    added = [] if random_effects is None else [random_effects]
    check_embeddings(adata, added or list(embeddings), "random_effects")
    splits = [np.asarray(cells, dtype=int) for cells in splits]
    check_external_indexing(splits, adata.n_obs, "splits")
    if not len(splits[2]):
        raise ValueError("splits: there are no test cells.")
    names = dict.fromkeys([*embeddings, *added])
    latents = {name: embedding_of(adata, name) for name in names}
    batches = adata.obs[batch_key].astype(str).to_numpy()
    features = feature_sets(latents, added, batches, splits[0])
    return classify(
        features, adata, target_key, splits, batches, n_trees=n_trees, n_jobs=n_jobs, seed=seed
    )


def feature_sets(
    latents: Mapping[str, np.ndarray],
    added: Sequence[str],
    batches: np.ndarray,
    train: np.ndarray,
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and features of all that is compared: alone, and beside what may be added.

    That is random effects, named in ``added``, and the batch label.
    """
    one_hot = (batches[:, None] == np.unique(batches[train])).astype(np.float32)
    yield BATCH_LABEL, one_hot
    for name, latent in latents.items():
        yield name, latent
        if name not in added:
            for other in added:
                yield name + SEPARATOR + other, np.hstack([latent, latents[other]])
        yield name + SEPARATOR + BATCH_LABEL, np.hstack([latent, one_hot])


def classify(
    features: Iterator[tuple[str, np.ndarray]],
    adata: AnnData,
    target_key: str,
    splits: Sequence[np.ndarray],
    batches: np.ndarray,
    *,
    n_trees: int,
    n_jobs: int,
    seed: int,
) -> Mixing:
    """Fit a forest to each of the features; see :func:`mixing_classifier`."""
    check_obs(adata, target_key, "target_key")
    target = adata.obs[target_key].astype(str).to_numpy()
    train, _, test = splits
    if len(np.unique(target[train])) < 2:
        raise ValueError(f"All training cells have the same {target_key!r}: nothing to learn.")
    rows = list(_chance(target_key, target[train], target[test]))
    votes: list[dict] = []
    for name, values in features:
        scaler = StandardScaler().fit(values[train])
        forest = RandomForestClassifier(n_trees, random_state=seed, n_jobs=n_jobs)
        forest.fit(scaler.transform(values[train]), target[train])
        probabilities = forest.predict_proba(scaler.transform(values[test]))
        predicted = forest.classes_[probabilities.argmax(1)]
        rows += _scores(name, target_key, target[test], predicted)
        votes += _votes(name, target_key, target[test], batches[test], probabilities, forest)
    return Mixing(pd.DataFrame(rows), pd.DataFrame(votes, columns=VOTES))


def _chance(target_key: str, train: np.ndarray, test: np.ndarray) -> Iterator[dict]:
    """Scores to expect of guesses in the proportions of the training cells."""
    shares = pd.Series(train).value_counts(normalize=True)
    hit = pd.Series(test).map(shares).fillna(0.0)
    values = {"accuracy": hit.mean(), "balanced_accuracy": hit.groupby(test).mean().mean()}
    for metric, value in values.items():
        yield {"embedding": CHANCE, "of": target_key, "metric": metric, "value": float(value)}


VOTES = ("embedding", "of", "batch", "truth", "vote", "share", "n_cells")


def _scores(
    name: str, target_key: str, truth: np.ndarray, predicted: np.ndarray
) -> Iterator[dict]:
    with warnings.catch_warnings():
        # Labels that no test cell has do not count; that some are predicted is no news.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        for metric, score in CLASSIFICATION_METRICS.items():
            value = float(score(truth, predicted))
            yield {"embedding": name, "of": target_key, "metric": metric, "value": value}


def _votes(
    name: str,
    target_key: str,
    target: np.ndarray,
    batches: np.ndarray,
    probabilities: np.ndarray,
    forest: RandomForestClassifier,
) -> Iterator[dict]:
    for batch in np.unique(batches):
        cells = batches == batch
        truth = np.unique(target[cells])
        if len(truth) > 1:
            continue
        mean = probabilities[cells].mean(0)
        values = (batch, truth[0], forest.classes_[mean.argmax()])
        share = float(mean[forest.classes_ == truth[0]].sum())
        yield dict(zip(VOTES, (name, target_key, *values, share, int(cells.sum())), strict=True))


def score_votes(votes: pd.DataFrame, n_permutations: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Evaluate votes of cells about their batches, with whole batches as the unit.

    Parameters
    ----------
    votes
        Votes on batches that were held out, of one fold or of several.
    n_permutations
        If the true labels can be given to the batches in so many ways or fewer, all of them are
        tried; otherwise as many are drawn.
    seed
        Seed of the draws.

    Returns
    -------
    pandas.DataFrame
        A row for each embedding and target: ``n_batches``, ``accuracy`` and
        ``balanced_accuracy`` of the votes, and ``p_value``, the share of the ways to give the
        labels to the batches (the true one counted among them) with at least that balanced
        accuracy.

    Notes
    -----
    The votes are kept as they are: no model is fitted again to permuted labels, and batches are
    exchanged across folds.

    Examples
    --------
    >>> import pandas as pd
    >>> import scmedal_tools as smt
    >>> votes = pd.DataFrame({"embedding": "X", "of": "sex", "truth": list("fffmmm")})
    >>> smt.bm.score_votes(votes.assign(vote=votes["truth"]))["p_value"].tolist()
    [0.05]
    """
    check_argument("n_permutations", n_permutations, whole())
    rows = []
    for (embedding, of), table in votes.groupby(["embedding", "of"], sort=False):
        truth, vote = table["truth"].to_numpy(), table["vote"].to_numpy()
        classes, codes, sizes = np.unique(truth, return_inverse=True, return_counts=True)
        # Of each batch, what its vote adds to the balanced accuracy under each label.
        added = (vote[:, None] == classes) / sizes / len(classes)
        observed = _balanced_accuracy(added, codes)
        ways, n_ways = relabelled(codes, n_permutations, seed)
        at_least = sum(_balanced_accuracy(added, other) >= observed - 1e-9 for other in ways)
        rows.append(
            {
                "embedding": embedding,
                "of": of,
                "n_batches": len(truth),
                "accuracy": float((truth == vote).mean()),
                "balanced_accuracy": observed,
                "p_value": at_least / n_ways,
            }
        )
    return pd.DataFrame(rows)


def _balanced_accuracy(added: np.ndarray, codes: np.ndarray) -> float:
    return float(added[np.arange(len(codes)), codes].sum())
