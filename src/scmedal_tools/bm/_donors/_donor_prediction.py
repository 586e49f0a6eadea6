"""Predict a donor's label or number from its cells, one donor left out at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from scmedal_tools._data import (
    check_argument,
    check_in_memory,
    check_log_normalised,
    check_obs,
    expression_of,
    whole,
)
from scmedal_tools._progress import tqdm
from scmedal_tools._relabelled import relabelled

from ._donor_sums import DonorSums
from ._features import UNSCALED, Features, features_of, in_both_scales
from ._learners import RIDGE, class_metrics, class_scores, number_metrics, predicted_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from anndata import AnnData

    # Not a type statement, which the documentation would not resolve.
    Embedding: TypeAlias = pd.DataFrame | Callable[[AnnData, list[str]], pd.DataFrame]  # noqa: UP040

# A class of which one donor is left out still has two, and so a variance.
MIN_DONORS = 3


class DonorPrediction(NamedTuple):
    """Result of :func:`donor_prediction`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> cells = smt.datasets.simulated(n_donors=8, n_genes=100, n_cell_types=3)
    >>> smt.pp.preprocess(cells, n_top_genes=None)
    >>> table, predictions = smt.bm.donor_prediction(
    ...     cells, "donor", "condition", "cell_type", progress=False
    ... )
    >>> list(predictions.columns)
    ['features', 'method', 'donor', 'truth', 'predicted', 'score']
    """

    table: pd.DataFrame
    """A row for each set of features, method and metric."""
    predictions: pd.DataFrame
    """A row for each set of features, method and donor, of the donor when it was left out."""


def donor_prediction(
    adata: AnnData,
    donor_key: str,
    target_key: str,
    labels_key: str,
    *,
    layer: str | None = None,
    n_top_genes: int | None = 2_000,
    total_counts_key: str | None = None,
    embeddings: Mapping[str, Embedding] | None = None,
    n_permutations: int = 1_000,
    seed: int = 0,
    progress: bool = True,
) -> DonorPrediction:
    r"""Predict labels or numbers of donors from their cells, with the donor as the unit.

    One donor is left out at a time, and everything that learns sees the others only: the choice
    of genes, the mixed models, standardisation, and what predicts. Simple features are evaluated
    in the same way; an embedding has to predict better than these:

    - *number of cells and depth*: log number of cells and mean log depth. They contain no biology;
      they show how the study was done;
    - *composition*: square roots of the shares of the cell types;
    - *mean of all cells*: mean expression, in which composition and effects are mixed;
    - *effects adjusted for cell type*: posterior means (BLUPs) of what a donor does to each gene,
      in the model ``type + (1 | donor) + (0 + type | donor)`` that
      :class:`~scmedal_tools.model.SCMEDAL_RE` has inside, without a network, averaged over cell
      types;
    - *embeddings* of yours.

    Parameters
    ----------
    adata
        Cells x genes, log-normalised.
    donor_key
        Column of ``adata.obs`` with the donors.
    target_key
        Column to predict, of which every donor has one value. A column of three numbers or more
        is predicted as numbers, anything else as labels.
    labels_key
        Column with the cell types, or states.
    layer
        Layer with the expression; ``None`` for ``adata.X``.
    n_top_genes
        Number of genes, those whose expression varies most over the cells of the training donors;
        ``None`` for all.
    total_counts_key
        Column with the total counts of each cell over the whole transcriptome. ``None`` leaves
        depth out of the comparison.
    embeddings
        Embeddings of donors by name: tables with a row for each donor, as
        ``scmedal_tools.tl.donor_embedding(model).to_df()``; or functions that make such a table of
        all donors from the cells and a list of the training donors, and are called for every donor
        that is left out. A table has seen all donors' cells, if not their labels: the column
        ``saw_all_donors`` says so.
    n_permutations
        If the labels can be given to the donors in so many ways or fewer, all of them are tried;
        otherwise as many are drawn.
    seed
        Seed of the draws.
    progress
        Show a progress bar over the donors.

    Returns
    -------
    DonorPrediction
        ``table``: ``features``, ``n_features``, ``method``, ``metric``, ``value``, ``chance``, the
        mean over all relabellings, and ``p_value``, the share of them (the true one counted among
        them) with at least that value; ``n_donors``, ``n_relabellings`` and ``saw_all_donors``.
        Labels: methods ``"nearest centroid"`` and ``"shrunken LDA"``, metrics
        ``"balanced_accuracy"`` and ``"auc"``. Numbers: method ``"ridge"``, metrics ``"r2"`` and
        ``"spearman"``, rank correlation, both against the mean of the other donors.
        ``predictions``: ``features``, ``method``, ``donor``, ``truth``, ``predicted`` and
        ``score``: of two labels how far the donor is on the side of the second, of several the
        lead of the first.

    Raises
    ------
    ValueError
        If the data are not log-normalised, a column does not exist or has gaps, a donor has
        several values of the target, a label has fewer than three donors, or an embedding lacks
        donors.

    See Also
    --------
    scmedal_tools.tl.donor_embedding : Effects of donors in a trained model.
    mixing_classifier : The question of the paper, whose unit is the cell.

    Notes
    -----
    For every relabelling all predictors are fitted again, in all folds: of the features none sees
    the labels. The p-value is right if donors could be exchanged under the null hypothesis. It
    does not say *why* groups differ: compare with composition, depth and the number of cells.
    There is one p-value for each row; do not report only the smallest of many.

    Features are standardised by the training donors. Posterior means and embeddings are also tried
    as they are (*not standardised*): with the same variance for all genes, it is lost which of
    them were shrunk. The discriminant analysis has one covariance within classes, shrunk by Ledoit
    and Wolf's rule, equal priors, and gets the ten directions in which the training donors differ
    most; the nearest centroid gets all. Neither has a parameter that was chosen by looking at
    results. The penalty of ridge regression is chosen among the training donors.

    References
    ----------
    Ledoit and Wolf, Journal of Multivariate Analysis 2004 (shrinkage); Ojala and Garriga, Journal
    of Machine Learning Research 2010 (permutation tests of classifiers).

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> cells = smt.datasets.simulated(n_donors=8, n_genes=100, n_cell_types=3)
    >>> smt.pp.preprocess(cells, n_top_genes=None)
    >>> result = smt.bm.donor_prediction(cells, "donor", "condition", "cell_type", progress=False)
    >>> result.table["features"].unique().tolist()[:4]
    ['number of cells', 'composition', 'mean of all cells', 'effects adjusted for cell type']
    >>> int(result.table["n_relabellings"].iloc[0])  # 8 donors, 4 of each condition
    70
    """
    check_in_memory(adata)
    check_argument("n_top_genes", n_top_genes, whole(), or_none=True)
    check_argument("n_permutations", n_permutations, whole())
    for key, what in (
        (donor_key, "donor_key"),
        (target_key, "target_key"),
        (labels_key, "labels_key"),
    ):
        check_obs(adata, key, what)
    check_log_normalised(adata, layer)
    truth = _donor_values(adata.obs, donor_key, target_key)
    is_number = is_numeric_dtype(truth.dtype) and not is_bool_dtype(truth.dtype)
    is_number &= truth.nunique() > 2  # two numbers stand for two groups
    totals = _totals(adata.obs, total_counts_key)
    donors, labels = (adata.obs[key] for key in (donor_key, labels_key))
    sums = DonorSums.of(expression_of(adata, layer), donors, labels, totals)
    classes: np.ndarray | None = None
    if is_number:
        targets, n_ways = _number_targets(truth, n_permutations, seed)
    else:
        classes, targets, n_ways = _label_targets(truth, target_key, n_permutations, seed)
    found = _Found(classes, targets)
    bar = tqdm(sums.names, disable=not progress, desc="Donors")
    for test, name in enumerate(bar):
        train = np.delete(np.arange(len(sums.names)), test)
        names = [sums.names[i] for i in train]
        own = _of_embeddings(embeddings or {}, adata, names, name)
        for features in (*features_of(sums, train.tolist(), test, n_top_genes), *own):
            found.add(features, train, test)
    tables = {k for k, values in (embeddings or {}).items() if isinstance(values, pd.DataFrame)}
    facts = {"n_donors": len(sums.names), "n_relabellings": n_ways}
    table = pd.DataFrame(row | facts for row in found.rows())
    names = table["features"].str.removesuffix(UNSCALED)
    table["saw_all_donors"] = names.isin(tables)
    return DonorPrediction(table, pd.DataFrame(found.predictions(truth)))


class _Found:
    """Predictions of every donor when it was left out, under all relabellings, the true one first.

    Parameters
    ----------
    classes
        Labels; ``None`` for numbers.
    targets
        Codes of the labels, or numbers, relabellings x donors.
    """

    def __init__(self, classes: np.ndarray | None, targets: np.ndarray):
        self.classes, self.targets = classes, targets
        self.values: dict[tuple[str, str], np.ndarray] = {}
        self.n_features: dict[str, int] = {}

    def add(self, features: Features, train: np.ndarray, test: int) -> None:
        turned, known = features.turned(), self.targets[:, train]
        if self.classes is None:
            of_methods = {RIDGE: predicted_numbers(*turned, known)}
        else:
            of_methods = class_scores(*turned, known, len(self.classes))
        for method, values in of_methods.items():
            shape = (*self.targets.shape, *values.shape[1:])
            key = (features.name, method)
            self.values.setdefault(key, np.empty(shape))[:, test] = values
        self.n_features[features.name] = features.train.shape[1]

    def rows(self) -> list[dict]:
        """What each metric says, and how often relabelled donors have as much."""
        metrics = number_metrics if self.classes is None else class_metrics
        return [
            {
                "features": name,
                "n_features": self.n_features[name],
                "method": method,
                "metric": metric,
                "value": float(of_all[0]),
                "chance": float(of_all.mean()),
                "p_value": float((of_all >= of_all[0] - 1e-9).mean()),
            }
            for (name, method), values in self.values.items()
            for metric, of_all in metrics(values, self.targets).items()
        ]

    def predictions(self, truth: pd.Series) -> list[dict]:
        rows = []
        for (name, method), values in self.values.items():
            for donor, (of_donor, true) in enumerate(zip(values[0], truth, strict=True)):
                score, predicted = of_donor, of_donor
                if self.classes is not None:
                    order = np.sort(of_donor)
                    two = len(self.classes) == 2
                    score = of_donor[1] - of_donor[0] if two else order[-1] - order[-2]
                    predicted = self.classes[of_donor.argmax()]
                rows.append(
                    {
                        "features": name,
                        "method": method,
                        "donor": truth.index[donor],
                        "truth": true,
                        "predicted": predicted,
                        "score": float(score),
                    }
                )
        return rows


def _donor_values(obs: pd.DataFrame, donor_key: str, target_key: str) -> pd.Series:
    """Value of every donor, in the order of the donors' names."""
    by_donor = obs[target_key].groupby(obs[donor_key].astype(str))
    several = by_donor.nunique()
    if (several != 1).any():
        raise ValueError(
            f"target_key={target_key!r} has several values in {several.idxmax()!r}: the unit is "
            "the donor, who needs one."
        )
    return by_donor.first()


def _label_targets(
    truth: pd.Series, key: str, n_permutations: int, seed: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels, and their codes in all relabellings, the true one first."""
    sizes = truth.astype(str).value_counts()
    if len(sizes) < 2 or sizes.min() < MIN_DONORS:
        raise ValueError(
            f"target_key={key!r} has {sizes.to_dict()} donors: two labels or more are needed, "
            f"each with at least {MIN_DONORS} donors, as one is left out."
        )
    classes, codes = np.unique(truth.astype(str), return_inverse=True)
    ways, n_ways = relabelled(codes, n_permutations, seed)
    targets = np.array(list(ways))
    true_first = np.argsort(~(targets == codes).all(1), kind="stable")
    return classes, targets[true_first], n_ways


def _number_targets(truth: pd.Series, n_permutations: int, seed: int) -> tuple[np.ndarray, int]:
    """Numbers in all relabellings, the true one first."""
    values, rng = truth.to_numpy(dtype=float), np.random.default_rng(seed)
    drawn = [rng.permutation(values) for _ in range(n_permutations)]
    return np.array([values, *drawn]), n_permutations + 1


def _totals(obs: pd.DataFrame, key: str | None) -> np.ndarray | None:
    if key is None:
        return None
    if key not in obs:
        raise ValueError(f"total_counts_key={key!r} is not a column of adata.obs.")
    totals = obs[key].to_numpy(dtype=float)
    if not (totals > 0).all():
        raise ValueError(f"total_counts_key={key!r}: every cell needs a total above 0.")
    return totals


def _of_embeddings(
    embeddings: Mapping[str, Embedding], adata: AnnData, train: list[str], test: str
) -> Sequence[Features]:
    found: list[Features] = []
    for name, embedding in embeddings.items():
        table = embedding if isinstance(embedding, pd.DataFrame) else embedding(adata, train)
        table = table.set_axis(table.index.map(str))
        if missing := sorted({*train, test} - set(table.index)):
            raise ValueError(f"The embedding {name!r} has no row for {missing}.")
        of_donors = (table.loc[donors].to_numpy(dtype=float) for donors in (train, [test]))
        found += in_both_scales(name, *of_donors)
    return found
