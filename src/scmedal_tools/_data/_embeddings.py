"""Embeddings that the user names: that they exist, and that their values are finite."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from ._check_cells import check_cells
from ._dense import dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def check_embeddings(adata: AnnData, keys: Sequence[str], argument: str) -> None:
    """Refuse embeddings that do not exist.

    Raises
    ------
    TypeError
        If these are no cells.
    ValueError
        If one name is given instead of a list, none, or one of them twice.
    KeyError
        If some are not in ``adata.obsm``; the message lists those that are.
    """
    check_cells(adata)
    if isinstance(keys, str):
        raise ValueError(f"{argument} takes a list: write [{keys!r}].")
    if not len(keys) or len(set(keys)) < len(keys):
        raise ValueError(f"{argument}={list(keys)!r}: name one embedding or more, each once.")
    missing = [key for key in keys if key not in adata.obsm]
    if missing:
        names = ", ".join(map(repr, missing))
        raise KeyError(f"{names} not in adata.obsm, which has {sorted(adata.obsm)}.")


def embedding_of(adata: AnnData, key: str, cells: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Embedding of some cells, cells x dimensions.

    Raises
    ------
    ValueError
        If it is no matrix, or a value is missing or infinite.
    """
    whole = dense(adata.obsm[key])
    if whole.ndim != 2:
        raise ValueError(
            f"adata.obsm[{key!r}] has the shape {whole.shape}: an embedding has two dimensions, "
            "cells x latent dimensions."
        )
    embedding = whole[cells]
    bad = ~np.isfinite(embedding).all(axis=1)
    if bad.any():
        raise ValueError(
            f"adata.obsm[{key!r}] has missing or infinite values in {bad.sum():,} of "
            f"{len(bad):,} cells. Embed them too, or leave them out."
        )
    return embedding


def digest_of(adata: AnnData, key: str) -> str:
    """Short digest of all values of an embedding."""
    return hashlib.sha256(np.ascontiguousarray(dense(adata.obsm[key])).tobytes()).hexdigest()[:16]
