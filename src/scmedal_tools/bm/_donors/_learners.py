"""What predicts a donor's label or number from features, under many relabellings at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.stats import rankdata
from sklearn import config_context
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import RidgeCV

CENTROID: Final = "nearest centroid"
LDA: Final = "shrunken LDA"
RIDGE: Final = "ridge"

# Directions that the discriminant analysis gets: fewer than donors, whatever the features.
N_DIRECTIONS = 10
# Of features whose total variance is 1.
ALPHAS = np.logspace(-3, 3, 13)


def class_scores(
    train: np.ndarray, test: np.ndarray, codes: np.ndarray, n_classes: int
) -> dict[str, np.ndarray]:
    """Scores of the classes by each classifier, for every relabelling of the training donors.

    Parameters
    ----------
    train, test
        Features of donors, donors x features, and of the one left out, 1 x features.
    codes
        Classes of the training donors, relabellings x donors.
    n_classes
        Number of classes.

    Returns
    -------
    Relabellings x classes; the largest is predicted.
    """
    member = codes[:, None] == np.arange(n_classes)[:, None]  # relabellings x classes x donors
    centroids = (member / member.sum(2, keepdims=True)) @ train
    from_centroids = test - centroids
    few = slice(N_DIRECTIONS)
    return {
        CENTROID: -np.square(from_centroids).sum(2),
        LDA: _discriminant(train[:, few], centroids[:, :, few], from_centroids[:, :, few], codes),
    }


def _discriminant(
    train: np.ndarray, centroids: np.ndarray, from_centroids: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    """Squared distances by the shrunken covariance within classes, with their sign changed.

    The covariance is pooled: classes of two or three donors have none worth the name.
    """
    scores = np.empty(centroids.shape[:2])
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for of_classes, centres, left, labels in zip(
            scores, centroids, from_centroids, codes, strict=True
        ):
            covariance, _ = ledoit_wolf(train - centres[labels], assume_centered=True)
            of_classes[:] = -((left @ np.linalg.pinv(covariance, hermitian=True)) * left).sum(1)
    return scores


def predicted_numbers(train: np.ndarray, test: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Numbers predicted by ridge regression, for every relabelling of the training donors.

    The penalty is chosen by leaving one training donor out, for each relabelling.

    Parameters
    ----------
    train, test
        See :func:`class_scores`.
    values
        Numbers of the training donors, relabellings x donors.

    Returns
    -------
    One for each relabelling.
    """
    ridge = RidgeCV(ALPHAS, alpha_per_target=True).fit(train, values.T)
    return ridge.predict(test).ravel()


def class_metrics(scores: np.ndarray, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Balanced accuracy and AUC (one class against the others, averaged) of all relabellings.

    Parameters
    ----------
    scores
        Relabellings x donors x classes.
    codes
        Classes, relabellings x donors.
    """
    hit = scores.argmax(2) == codes
    others = (scores.sum(2, keepdims=True) - scores) / (scores.shape[2] - 1)
    ranks = rankdata(scores - others, axis=1)
    recalls, areas = [], []
    for of_class in range(scores.shape[2]):
        own = codes == of_class
        n_own, n_other = own.sum(1), (~own).sum(1)
        recalls.append((hit & own).sum(1) / n_own)
        above = (ranks[:, :, of_class] * own).sum(1) - n_own * (n_own + 1) / 2
        areas.append(above / (n_own * n_other))
    return {"balanced_accuracy": np.mean(recalls, axis=0), "auc": np.mean(areas, axis=0)}


def number_metrics(predicted: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """Share of the variance that is predicted, and rank correlation, of all relabellings.

    Both are compared with the mean of the other donors, which is the lower the higher the donor's
    own value: a prediction by this mean alone has a share of 0, and no correlation.

    Parameters
    ----------
    predicted, values
        Relabellings x donors.
    """
    n = values.shape[1]
    of_others = (values.sum(1, keepdims=True) - values) / (n - 1)
    left, without = (np.square(values - guess).sum(1) for guess in (predicted, of_others))
    beyond = predicted - of_others
    ranks = [_standardised(rankdata(x, axis=1)) for x in (beyond, values)]
    return {"r2": 1 - left / without, "spearman": (ranks[0] * ranks[1]).mean(1)}


def _standardised(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean(1, keepdims=True)
    sd = centred.std(1, keepdims=True)
    return np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0)
