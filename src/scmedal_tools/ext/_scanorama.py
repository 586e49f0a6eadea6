"""Scanorama, in the space of the principal components of all cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmedal_tools._docs import with_shared_parts

from ._common import ComparatorRun, import_optional, random_state
from ._pca import principal_components

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@with_shared_parts
def scanorama(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_scanorama",
    seed: int = 0,
    n_latent: int = 50,
    **settings: Any,
) -> str:
    """Scanorama (Hie et al., 2019) on the principal components of all cells.

    %(joint)s

    Batches are given to it one after the other, in the order of their names; the result has the
    order of ``adata``.

    Parameters
    ----------
    adata, batch_key, labels_key, splits, key_added, seed, n_latent
        See :func:`harmony`.
    **settings
        Arguments of ``scanorama.assemble`` that replace its defaults: ``knn`` (20 neighbours),
        ``sigma`` (15, width of the smoothing), ``alpha`` (0.1, least share of matched cells),
        ``approx`` (approximate neighbours), ``batch_size`` (cells at a time; 5,000).

    %(key)s

    Raises
    ------
    ImportError
        If scanorama is not installed.
    %(as_pca)s

    Notes
    -----
    As scanpy's ``external.pp.scanorama_integrate``, with which the paper ran it. Scanorama itself
    scales every cell to length 1 first: ``sigma`` was chosen for that, and between components as
    they are it lets a correction reach only cells close to a matched one.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.scanorama(adata, batch_key="donor", n_latent=10)
    'X_scanorama'
    >>> adata.obsm["X_scanorama"].shape
    (240, 10)
    """
    run = ComparatorRun("scanorama", adata, batch_key, None, splits, key_added, seed)
    components = principal_components(adata, np.arange(adata.n_obs), n_latent, seed)
    cells = list(adata.obs.groupby(adata.obs[batch_key].astype(str)).indices.values())
    with random_state(seed):  # the import, too, seeds numpy's global generator
        integrated = import_optional("scanorama").assemble(
            [components[of_batch].astype(float) for of_batch in cells],
            **{"verbose": False, "batch_size": 5_000} | settings,
        )
    latent = np.empty_like(components)
    latent[np.concatenate(cells)] = np.concatenate(integrated)
    return run.write(latent, {"n_latent": n_latent} | settings)
