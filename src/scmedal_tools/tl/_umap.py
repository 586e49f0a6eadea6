"""Two-dimensional UMAP of one embedding, stored under a name of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
from anndata import AnnData

from scmedal_tools._data import (
    NOT_NEGATIVE,
    check_argument,
    check_embeddings,
    digest_of,
    embedding_of,
    slots,
    whole,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_CELLS = 3
# Spectral initialisation needs more cells than this; below it UMAP starts at random.
MIN_CELLS_SPECTRAL = 5


def umap(
    adata: AnnData,
    key: str,
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.5,
    random_state: int = 0,
    recompute: bool = False,
) -> None:
    """Compute the two-dimensional UMAP of an embedding.

    The neighbour graph is built for this purpose only and thrown away: ``obsp`` and an existing
    ``X_umap`` of the caller stay as they are. The defaults for `n_neighbors` and
    `min_dist` are those of the scMEDAL paper (supplementary table S5).

    Parameters
    ----------
    adata
        Annotated data of ``n_obs`` cells.
    key
        Name of the embedding in ``adata.obsm``, of shape ``(n_obs, n_latent)``.
    n_neighbors
        Neighbours of each cell, at most ``n_obs - 1``: with fewer cells it is lowered.
    min_dist
        Smallest distance between points in the plane.
    random_state
        Seed of the neighbour search and of the optimisation.
    recompute
        Compute again where the result already exists. A result is reused whatever the other
        arguments are, so this is needed after changing one of them.

    Returns
    -------
    None
        Writes ``adata.obsm["X_umap_<name>"]`` of shape ``(n_obs, 2)``, where ``<name>`` is `key`
        without its leading ``X_``, and `key` into ``adata.uns["scmedal_umap"]``, with the digest
        of its values: when they are replaced by others, the UMAP is computed again. That of fewer
        cells, taken from the data, is kept, as is one that is not of this function.

    Raises
    ------
    KeyError
        If `key` is not in ``adata.obsm``.
    ValueError
        If there are fewer than three cells, or the embedding has missing or infinite values,
        or its UMAP would take the place of another embedding's: ``"pca"`` and ``"X_pca"``.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> key = smt.tl.embed(adata, model)
    >>> smt.tl.umap(adata, key)
    >>> adata.obsm["X_umap_scmedal_re"].shape
    (240, 2)

    To draw it, one or several side by side:

    >>> figure = smt.pl.umap(adata, key, "donor")
    >>> figure = smt.pl.embeddings(adata, [key], ["donor"])
    """
    check_embeddings(adata, [key], "key")
    check_argument("n_neighbors", n_neighbors, whole())
    check_argument("min_dist", min_dist, NOT_NEGATIVE)
    key_out = umap_key(key)
    record = adata.uns.get(slots.UMAP_SOURCES, {}).get(key_out, {})
    source = record.get("embedding", key)
    if key_out in adata.obsm and source != key:
        raise ValueError(
            f"adata.obsm[{key_out!r}] is the UMAP of {source!r}, and that of {key!r} would have "
            f"the same name: rename {key!r}, or delete adata.obsm[{key_out!r}]."
        )
    new = {"embedding": key, "digest": digest_of(adata, key), "n_obs": adata.n_obs}
    is_other = record.get("n_obs") == adata.n_obs and record["digest"] != new["digest"]
    if recompute or key_out not in adata.obsm or is_other:
        if adata.n_obs < MIN_CELLS:
            raise ValueError(f"UMAP needs at least {MIN_CELLS} cells, got {adata.n_obs}.")
        latent = embedding_of(adata, key)
        adata.obsm[key_out] = _project(latent, n_neighbors, min_dist, random_state)
        adata.uns.setdefault(slots.UMAP_SOURCES, {})[key_out] = new


def umap_key(key: str) -> str:
    """Return the ``obsm`` name of the UMAP of embedding `key`."""
    return slots.UMAP_PREFIX + key.removeprefix("X_")


def _project(
    latent: NDArray[np.floating], n_neighbors: int, min_dist: float, random_state: int
) -> NDArray[np.floating]:
    # scanpy writes a graph, distances and parameters: into this object, not the caller's.
    scratch = AnnData(obsm={"latent": latent})
    n_cells = scratch.n_obs
    sc.pp.neighbors(
        scratch,
        use_rep="latent",
        n_neighbors=min(n_neighbors, n_cells - 1),
        random_state=random_state,
    )
    sc.tl.umap(
        scratch,
        min_dist=min_dist,
        random_state=random_state,
        init_pos="spectral" if n_cells >= MIN_CELLS_SPECTRAL else "random",
    )
    return np.asarray(scratch.obsm["X_umap"])
