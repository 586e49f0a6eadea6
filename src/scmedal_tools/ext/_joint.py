"""Methods that integrate all cells together, in the space of their principal components."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from scmedal_tools._docs import with_shared_parts
from scmedal_tools._how_to_install import how_to_install

from ._common import ComparatorRun, random_state
from ._pca import principal_components

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

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
    ValueError
        As :func:`pca`.

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
    harmonypy = _optional("harmonypy")
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
    ValueError
        As :func:`pca`.

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
        integrated = _optional("scanorama").assemble(
            [components[of_batch].astype(float) for of_batch in cells],
            **{"verbose": False, "batch_size": 5_000} | settings,
        )
    latent = np.empty_like(components)
    latent[np.concatenate(cells)] = np.concatenate(integrated)
    return run.write(latent, {"n_latent": n_latent} | settings)


def _optional(package: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(f"{package} is not installed. {how_to_install('benchmark')}") from error
