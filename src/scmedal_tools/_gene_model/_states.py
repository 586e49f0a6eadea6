"""States of the content, for which the effects on single genes differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

# Cells that the centre of a state in all batches counts as in that of each batch.
PRIOR_CELLS = 10
# Harmony's own default is a cluster for 30 cells, at most 100.
CELLS_PER_CLUSTER, MAX_CLUSTERS = 30, 100


def find_states(
    content: np.ndarray, levels: np.ndarray, n_batch: int, n_states: int, seed: int = 0
) -> np.ndarray:
    """Centres of states of the content, in every batch and over all of them.

    States are k-means clusters of the content once Harmony has taken out of it what it still has
    of the batch, so that cells of all batches meet in them. Each batch has centres of its own,
    shrunk towards those of all batches, so that further cells find their state without Harmony.

    Parameters
    ----------
    content
        Cells x dimensions.
    levels
        Level of each cell and factor, cells x factors; the batch comes first.
    n_batch, n_states
        Numbers of batches and of states.
    seed
        Seed of Harmony and of k-means.

    Returns
    -------
    Shape ``(n_batch + 1, n_states, n_dimensions)``; the last ones are over all batches.

    References
    ----------
    Korsunsky et al., Nature Methods 2019 (Harmony).
    """
    clusters = harmony_clusters(content, levels, n_states, seed)
    return centres_of(content, clusters, levels[:, 0], n_batch, n_states)


def harmony_clusters(
    content: np.ndarray, levels: np.ndarray, n_clusters: int, seed: int = 0
) -> np.ndarray:
    """Clusters of cells in a space from which Harmony has taken the levels of some factors."""
    from harmonypy import run_harmony

    n_soft = min(len(content) // CELLS_PER_CLUSTER, MAX_CLUSTERS)
    if n_soft > 1:
        names = [str(factor) for factor in range(levels.shape[1])]
        obs = pd.DataFrame(levels.astype(str), columns=names)
        several = [name for name in names if obs[name].nunique() > 1]
        if several:
            harmony = run_harmony(
                content, obs, several, nclust=n_soft, random_state=seed, verbose=False
            )
            corrected = np.asarray(harmony.Z_corr)
            content = corrected if corrected.shape == content.shape else corrected.T
    n_clusters = min(n_clusters, len(content))
    return KMeans(n_clusters, n_init=3, random_state=seed).fit_predict(content)


def centres_of(
    content: np.ndarray, state: np.ndarray, batch: np.ndarray, n_batch: int, n_states: int
) -> np.ndarray:
    """Centres of states in every batch, shrunk towards those over all batches, which follow.

    A state without cells is nowhere: its centres are at infinity.
    """
    sums = np.zeros((n_batch, n_states, content.shape[1]))
    np.add.at(sums, (batch, state), content)
    sizes = np.zeros((n_batch, n_states, 1))
    np.add.at(sizes, (batch, state), 1.0)
    total = sizes.sum(0)
    overall = np.where(total > 0, sums.sum(0) / np.maximum(total, 1), np.inf)
    own = (sums + PRIOR_CELLS * overall) / (sizes + PRIOR_CELLS)
    return np.concatenate([own, overall[None]])
