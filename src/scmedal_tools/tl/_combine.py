"""Several embeddings combined into one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools import __version__
from scmedal_tools._data import check_embeddings, check_key, embedding_of, slots

from ._umap import umap_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def combine(
    adata: AnnData,
    keys: Sequence[str],
    key_added: str = "X_combined",
    *,
    splits: Sequence[np.ndarray] | None = None,
) -> str:
    """Standardise the columns of several embeddings and put them side by side, as in the paper.

    Every column gets mean 0 and standard deviation 1, so an embedding counts by its number
    of columns, not by its scale: 50 components of a PCA contribute about five times as much to a
    squared distance between cells as 10 dimensions of another latent.

    Parameters
    ----------
    adata
        Annotated data of ``n_obs`` cells; modified.
    keys
        Names of the embeddings in ``adata.obsm``, two or more.
    key_added
        Name of the result.
    splits
        Positions of the training, validation and test cells, as
        :func:`scmedal_tools.train.stratified_split` gives them: means and standard deviations are
        those of the training cells. By default those of all cells.

    Returns
    -------
    str
        The name, for ``sc.pp.neighbors(adata, use_rep=...)``.

    Raises
    ------
    KeyError
        If an embedding does not exist.
    ValueError
        If fewer than two embeddings are named, ``key_added`` is one of them, no file can
        hold it, or some cells have missing values.

    Notes
    -----
    Writes ``adata.obsm[key_added]`` (float32; columns that are constant in the training cells are
    zero) and a record of the embeddings and their numbers of columns to
    ``adata.uns["scmedal"][key_added]``. Drops the UMAP of an embedding that is overwritten.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> pca = smt.ext.pca(adata, batch_key="donor", n_latent=10)
    >>> key = smt.tl.embed(adata, model)
    >>> smt.tl.combine(adata, [pca, key])
    'X_combined'
    >>> adata.obsm["X_combined"].shape
    (240, 14)
    """
    check_embeddings(adata, keys, "keys")
    if len(keys) < 2:
        raise ValueError(f"keys={list(keys)!r}: name two embeddings or more to combine.")
    check_key(key_added)
    if key_added in keys:
        raise ValueError(f"key_added={key_added!r} would overwrite an embedding that is combined.")
    train: np.ndarray | slice = slice(None)
    if splits is not None:
        train, _, _ = splits
    parts = [_standardised(embedding_of(adata, key), train) for key in keys]
    adata.obsm[key_added] = np.hstack(parts).astype(np.float32)
    adata.obsm.pop(umap_key(key_added), None)
    record = {
        "method": "standardised concatenation",
        "embeddings": list(keys),
        "n_columns": [part.shape[1] for part in parts],
        "standardised_on": "all cells" if splits is None else "training cells",
        "scmedal_tools": __version__,
    }
    adata.uns[slots.PROVENANCE] = {**adata.uns.get(slots.PROVENANCE, {}), key_added: record}
    return key_added


def _standardised(x: np.ndarray, train: np.ndarray | slice) -> np.ndarray:
    fitted = x[train].astype(np.float64)
    # Not by the s.d.: that of a constant is rounding noise, not always zero.
    varies = np.ptp(fitted, axis=0) > 0
    return np.where(varies, (x - fitted.mean(0)) / np.where(varies, fitted.std(0), 1), 0)
