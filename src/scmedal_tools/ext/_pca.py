"""Principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.decomposition import PCA

from scmedal_tools._data import check_log_normalised
from scmedal_tools._docs import with_shared_parts

from ._common import ComparatorRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData


@with_shared_parts
def pca(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_pca",
    seed: int = 0,
    n_latent: int = 50,
) -> str:
    """Principal components of the training cells, on which all cells are projected.

    Parameters
    ----------
    adata
        Cells with log-normalised expression in ``X``, in memory; modified.
    batch_key
        Column of ``adata.obs`` with the batches. PCA does not use it.
    labels_key
        Column with the cell types. Not used; all comparators take the same arguments.
    %(splits)s
    key_added
        Name in ``obsm``. The default replaces a PCA of scanpy's.
    seed
        Random state: of the solver's first vector.
    n_latent
        Number of components, fewer than cells and genes.

    Returns
    -------
    str
        The name in ``obsm``.

    Raises
    ------
    ValueError
        If the expression is not log-normalised, the column of the batches is missing, incomplete
        or has one level, or the splits do not hold every cell once.

    Notes
    -----
    Writes ``adata.obsm[key]`` of shape ``(n_cells, n_latent)`` and a record to
    ``adata.uns["scmedal"][key]``, and drops the UMAP of an embedding that is replaced.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.pca(adata, batch_key="donor", n_latent=10)
    'X_pca'
    >>> adata.obsm["X_pca"].shape
    (240, 10)
    """
    run = ComparatorRun("pca", adata, batch_key, None, splits, key_added, seed)
    components = principal_components(adata, run.parts[0], n_latent, seed)
    return run.write(components, {"n_latent": n_latent})


def principal_components(
    adata: AnnData, train: np.ndarray, n_latent: int, seed: int
) -> np.ndarray:
    """Projection of all cells on the components of some, ``(n_cells, n_latent)``.

    Raises
    ------
    ValueError
        If the expression is not log-normalised, or has fewer cells or genes than components.
    """
    check_log_normalised(adata)
    most = min(len(train), adata.n_vars) - 1
    if not 1 <= n_latent <= most:
        raise ValueError(
            f"n_latent={n_latent} components of {len(train):,} training cells with "
            f"{adata.n_vars:,} genes are not possible: "
            + (f"choose 1 to {most}." if most else "two cells and two genes are needed.")
        )
    # This solver takes both sparse and dense matrices, without making them dense.
    components = PCA(n_latent, svd_solver="arpack", random_state=seed).fit(adata.X[train])
    return components.transform(adata.X)
