"""Harmony, in the space of the principal components of all cells."""

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
def harmony(
    adata: AnnData,
    *,
    batch_key: str,
    labels_key: str | None = None,
    splits: Sequence[np.ndarray] | None = None,
    key_added: str = "X_harmony",
    seed: int = 0,
    n_latent: int = 50,
    **settings: Any,
) -> str:
    """Harmony (Korsunsky et al., 2019) on the principal components of all cells.

    %(joint)s

    Parameters
    ----------
    adata, batch_key, labels_key, key_added, n_latent
        See :func:`pca`; the batch is what is integrated over.
    splits
        Only checked: all cells are integrated together.
    seed
        Random state of the PCA and of Harmony.
    **settings
        Arguments of ``harmonypy.run_harmony`` that replace its defaults, for example
        ``theta``.

    %(key)s

    Raises
    ------
    ImportError
        If harmonypy is not installed.
    %(as_pca)s

    Notes
    -----
    harmonypy is called directly: ``scanpy.external.pp.harmony_integrate`` (scanpy 1.12) transposes
    the result, which fails with harmonypy 2, where cells are rows already.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> smt.ext.harmony(adata, batch_key="donor", n_latent=10)
    'X_harmony'
    >>> adata.obsm["X_harmony"].shape
    (240, 10)
    """
    run = ComparatorRun("harmony", adata, batch_key, None, splits, key_added, seed)
    harmonypy = import_optional("harmonypy")
    components = principal_components(adata, np.arange(adata.n_obs), n_latent, seed)
    batches = adata.obs[[batch_key]].astype(str)
    with random_state(seed):
        result = harmonypy.run_harmony(
            components, batches, batch_key, **{"verbose": False, "random_state": seed} | settings
        )
    corrected = np.asarray(result.Z_corr)
    # Which axis has the cells depends on the version of harmonypy.
    corrected = corrected if corrected.shape == components.shape else corrected.T
    return run.write(corrected, {"n_latent": n_latent} | settings)
