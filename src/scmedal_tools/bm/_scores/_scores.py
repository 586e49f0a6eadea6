"""How far embeddings separate batches and cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score

from scmedal_tools._data import check_argument, check_embeddings, check_obs, embedding_of, whole
from scmedal_tools._docs import with_shared_parts

from ._scib import N_LISI, import_scib, scib_scores
from ._silhouette import Grouping, silhouette_widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

# Fewest cells of a batch in a label for which the batch counts within it.
MIN_CELLS: Final = 10
CLUSTERING_METRICS: Final = ("ASW", "CH", "1/DB")


@with_shared_parts
def scores(
    adata: AnnData,
    embeddings: Sequence[str],
    batch_key: str,
    labels_key: str,
    *,
    indices: Sequence[int] | np.ndarray | None = None,
    max_cells: int | None = 10_000,
    scib: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Score batch correction: how far embeddings separate batches and cell types.

    A corrected embedding should score low for the batch and high for the label; one that models
    the batches (RE) high for the batch. Where batches have different cell types, "batch" scores
    the types too: read "batch within label".

    Parameters
    ----------
    adata
        Annotated data of ``n_obs`` cells; not changed.
    embeddings
        Names in ``adata.obsm``.
    %(columns)s
    indices
        Positions of the cells to score, for example the test cells; by default all.
    max_cells
        With more cells than this, so many are drawn at random, the same for all embeddings.
        ``None`` scores all cells; the time grows with the square of their number, the memory does
        not.
    scib
        Add the metrics of scib-metrics, which needs the ``benchmark`` extra and more than 90
        cells.
    seed
        Seed of the draw, and of the neighbour search of scib-metrics.

    Returns
    -------
    pandas.DataFrame
        Columns ``embedding``, ``metric``, ``of`` and ``value``. *Of* ``"batch"``, ``"batch within
        label"`` (mean over the labels, unweighted, of which two batches have 10 cells; without
        the batches that have fewer) and ``"label"`` there are

        - ``"ASW"``, the mean silhouette width, from -1 to 1 (Euclidean);
        - ``"CH"``, the Calinski-Harabasz index, which grows with the number of cells;
        - ``"1/DB"``, the reciprocal of the Davies-Bouldin index.

        High is separated. NaN where there is no such label, or one batch or label only; CH and
        1/DB also where every cluster
        is a point, or all have their centre in one. The metrics of scib-metrics lie between 0 and
        1, and high is *good*: ``"iLISI"`` of the batch, ``"BRAS"`` and ``"kBET"`` of the batch
        within label, ``"cLISI"``, ``"graph connectivity"`` and ``"isolated labels"`` of the label.

    Raises
    ------
    KeyError
        If an embedding does not exist.
    ValueError
        If an embedding has missing values, a column cannot be used, ``indices`` are no positions
        of cells, each cell is a batch or label of its own, or there is one only and ``scib=True``.
    ImportError
        If ``scib=True`` and scib-metrics is missing.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> pca = smt.ext.pca(adata, batch_key="donor", n_latent=10)
    >>> table = smt.bm.scores(adata, [pca], "donor", "cell_type")
    >>> wide = table.pivot(index="embedding", columns=["of", "metric"], values="value")
    >>> list(wide["label"].columns)
    ['ASW', 'CH', '1/DB']
    """
    check_embeddings(adata, embeddings, "embeddings")
    for key, what in ((batch_key, "batch_key"), (labels_key, "labels_key")):
        check_obs(adata, key, what=what)
    if scib:
        import_scib()
    cells = draw_cells(adata.n_obs, indices, max_cells, seed)
    batches, labels = columns_to_score(adata.obs.iloc[cells], [batch_key, labels_key], scib)
    groupings = {
        "batch": Grouping.of(batches),
        "batch within label": Grouping.within(batches, labels, MIN_CELLS),
        "label": Grouping.of(labels),
    }
    rows = []
    for name in embeddings:
        embedding = embedding_of(adata, name, cells)
        found = _separation(embedding, groupings)
        if scib:
            found += scib_scores(embedding, batches, labels, seed)
        rows += [(name, *row) for row in found]
    return pd.DataFrame(rows, columns=["embedding", "metric", "of", "value"])


def columns_to_score(obs: pd.DataFrame, keys: Sequence[str], scib: bool) -> list[np.ndarray]:
    """Columns of the cells to score, refused if no score could come of them."""
    if scib and len(obs) <= N_LISI:
        raise ValueError(
            f"scib=True takes {N_LISI} neighbours of a cell, and there are {len(obs)} cells."
        )
    columns = [obs[key].astype(str).to_numpy() for key in keys]
    for key, values in zip(keys, columns, strict=True):
        n_levels = len(np.unique(values))
        if n_levels == len(obs) or (scib and n_levels < 2):
            raise ValueError(
                f"The {len(obs):,} cells to score have {n_levels:,} level(s) of {key!r}: fewer "
                "than cells are needed, and two for scib-metrics. Choose other cells."
            )
    return columns


def draw_cells(
    n_obs: int, indices: Sequence[int] | np.ndarray | None, max_cells: int | None, seed: int
) -> np.ndarray:
    """Sorted positions of the cells to score, which depend on nothing but the arguments."""
    check_argument("max_cells", max_cells, whole(), or_none=True)
    cells = np.arange(n_obs)
    if indices is not None:
        cells = np.unique(np.asarray(indices, dtype=int))
        if len(cells) < len(indices) or not len(cells) or cells[0] < 0 or cells[-1] >= n_obs:
            raise ValueError(
                f"indices must be positions of cells, from 0 to {n_obs - 1:,} and each once. "
                "For a mask: np.flatnonzero(mask)."
            )
    if max_cells is None or len(cells) <= max_cells:
        return cells
    return np.sort(np.random.default_rng(seed).choice(cells, max_cells, replace=False))


def _separation(x: np.ndarray, groupings: dict[str, Grouping]) -> list[tuple[str, str, float]]:
    rows, x = [], x.astype(np.float64)
    widths = silhouette_widths(x, list(groupings.values()))
    for (of, grouping), own in zip(groupings.items(), widths, strict=True):
        parts = [
            (own[cells].mean(), *_indices(x[cells], grouping.clusters[cells]))
            for cells in grouping.parts()
        ]
        means = np.mean(parts, axis=0) if parts else [np.nan] * 3
        rows += [
            (metric, of, float(v)) for metric, v in zip(CLUSTERING_METRICS, means, strict=True)
        ]
    return rows


def _indices(x: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Calinski-Harabasz and reciprocal Davies-Bouldin index."""
    overlap = davies_bouldin_score(x, clusters)
    if not overlap:  # sklearn's answer, too, where all clusters or their centres are points
        return np.nan, np.nan
    return calinski_harabasz_score(x, clusters), 1 / overlap
