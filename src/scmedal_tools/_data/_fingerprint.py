"""What identifies data, so that results of others are not reused."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

LENGTH = 16
# Cells, evenly spaced, by which a change in place is noticed.
SAMPLE = 300


def fingerprint(
    adata: AnnData, columns: Sequence[str], embeddings: Sequence[str], layers: Sequence[str]
) -> dict[str, str]:
    """Digests of the names, expression, layers, columns and embeddings that are used."""
    parts = {
        "cells": _of_text(adata.obs_names),
        "genes": _of_text(adata.var_names),
        "X": _of_numbers(adata.X),
    }
    parts |= {f"layer {key}": _of_numbers(adata.layers[key]) for key in layers}
    parts |= {f"obs {key}": _of_text(adata.obs[key].astype(str)) for key in columns}
    parts |= {f"obsm {key}": _of_numbers(adata.obsm[key]) for key in embeddings}
    return parts


def sample_digest(x: Any) -> str:
    """Digest of the values of some cells, and whether those of all are finite."""
    rows = np.unique(np.linspace(0, x.shape[0] - 1, SAMPLE, dtype=int))
    values = x.data if sparse.issparse(x) else x
    return f"{_of_numbers(x[rows])}, finite: {np.isfinite(values.sum(dtype=np.float64))}"


def _of_text(values: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:LENGTH]


def _of_numbers(values: Any) -> str:
    if sparse.issparse(values):
        values = values.tocsr()
        parts = [values.data, values.indices, values.indptr]
    else:
        parts = [values.to_numpy() if isinstance(values, pd.DataFrame) else np.asarray(values)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part))  # which reads it in place, however large it is
    return digest.hexdigest()[:LENGTH]
