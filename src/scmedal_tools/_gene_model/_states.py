"""States of the content, for which the effects on single genes differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

# Harmony's own default is a cluster for 30 cells, at most 100.
CELLS_PER_CLUSTER, MAX_CLUSTERS = 30, 100


def find_states(
    content: np.ndarray, levels: np.ndarray, n_states: int, seed: int = 0
) -> np.ndarray:
    """Centres of states of the content.

    States are k-means clusters of the content once Harmony has taken out of it what it still has
    of the batch, so that cells of all batches meet in them. Their centres are those of the content
    itself, so that further cells find their state without Harmony.

    Parameters
    ----------
    content
        Cells x dimensions.
    levels
        Level of each cell and factor, cells x factors; the batch comes first.
    n_states
        Number of states.
    seed
        Seed of Harmony and of k-means.

    Returns
    -------
    Shape ``(n_states, n_dimensions)``; fewer where there are fewer cells.

    References
    ----------
    Korsunsky et al., Nature Methods 2019 (Harmony).
    """
    clusters = harmony_clusters(content, levels, n_states, seed)
    return np.stack([content[clusters == cluster].mean(0) for cluster in np.unique(clusters)])


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
