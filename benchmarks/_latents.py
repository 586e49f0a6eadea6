"""What is predicted from a latent: the batch within cell types, and the cell types."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score, silhouette_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

MIN_TRAIN, MIN_TEST = 20, 5
N_NEIGHBOURS = 15


def forest_accuracy(
    latent: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    """Balanced accuracy of a fresh random forest on test cells."""
    scaler = StandardScaler().fit(latent[train])
    forest = RandomForestClassifier(100, random_state=0)
    forest.fit(scaler.transform(latent[train]), target[train])
    predicted = forest.predict(scaler.transform(latent[test]))
    return float(balanced_accuracy_score(target[test], predicted))


def readable_within(
    latent: np.ndarray, batches: np.ndarray, labels: np.ndarray, train, test
) -> float:
    """Accuracy at which a forest predicts batches within a type, less chance; mean over types."""
    excess = []
    for cells, _ in _types(batches, labels, train, test):
        parts = (np.intersect1d(part, cells) for part in (train, test))
        n_batch = len(np.unique(batches[cells]))
        excess.append(forest_accuracy(latent, batches, *parts) - 1 / n_batch)
    return float(np.mean(excess))


def silhouette_within(
    latent: np.ndarray, batches: np.ndarray, labels: np.ndarray, train, test
) -> float:
    """Silhouette width of the batches within a type on test cells; mean over types."""
    widths = []
    for cells, _ in _types(batches, labels, train, test):
        cells = np.intersect1d(test, cells)
        widths.append(silhouette_score(latent[cells], batches[cells]))
    return float(np.mean(widths))


def same_batch_neighbours(
    latent: np.ndarray, batches: np.ndarray, labels: np.ndarray, test: np.ndarray
) -> tuple[float, float]:
    """Share of a test cell's neighbours within its type from its batch, and what chance gives."""
    observed, expected = [], []
    for label in np.unique(labels[test]):
        cells = test[labels[test] == label]
        if len(cells) <= 2 * N_NEIGHBOURS:
            continue
        model = NearestNeighbors(n_neighbors=N_NEIGHBOURS + 1).fit(latent[cells])
        found = model.kneighbors(return_distance=False)[:, :N_NEIGHBOURS]
        observed.append((batches[cells][found] == batches[cells][:, None]).mean(1))
        shares = np.unique(batches[cells], return_counts=True)[1] / len(cells)
        expected.append(np.full(len(cells), np.square(shares).sum()))
    return tuple(float(np.concatenate(values).mean()) for values in (observed, expected))


def _types(batches: np.ndarray, labels: np.ndarray, train, test):
    """Cells of every type that two batches have enough training and test cells of."""
    for label in np.unique(labels):
        of_type = [part[labels[part] == label] for part in (train, test)]
        names = [
            name
            for name in np.unique(batches[of_type[0]])
            if (batches[of_type[0]] == name).sum() >= MIN_TRAIN
            and (batches[of_type[1]] == name).sum() >= MIN_TEST
        ]
        if len(names) > 1:
            yield np.flatnonzero((labels == label) & np.isin(batches, names)), label
