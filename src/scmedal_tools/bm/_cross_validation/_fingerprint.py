"""What identifies data and functions, so that results of others are not reused."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData

LENGTH = 16


def fingerprint(
    adata: AnnData, columns: Sequence[str], embeddings: Sequence[str], layers: Sequence[str]
) -> dict[str, str]:
    """Digests of the names, expression, layers, columns and embeddings that are used."""
    parts = {
        "cells": "\n".join(adata.obs_names).encode(),
        "genes": "\n".join(adata.var_names).encode(),
        "X": _bytes(adata.X),
    }
    parts |= {f"layer {key}": _bytes(adata.layers[key]) for key in layers}
    parts |= {f"obs {key}": "\n".join(adata.obs[key].astype(str)).encode() for key in columns}
    parts |= {f"obsm {key}": _bytes(adata.obsm[key]) for key in embeddings}
    return {name: _digest(content) for name, content in parts.items()}


def describe(name: str, method: str | Callable, *, kept: bool) -> str:
    """Name of a method; of a function, its version.

    Parameters
    ----------
    name
        Name that the method has in the results.
    method
        Name of a model, comparator or embedding, or a function.
    kept
        Whether its results are kept for a later call, which has to know what they are of.
    """
    if not callable(method):
        return method
    version = getattr(method, "version", None)
    if kept and version is None:
        raise ValueError(
            f"models: {name!r} is a function, and `out` keeps results to resume from. Give it a "
            "version, and change that with the function: function.version = '1'"
        )
    return f"{name} {version}"


def _bytes(values: Any) -> bytes:
    if sparse.issparse(values):
        values = values.tocsr()
        return b"".join(
            np.asarray(v).tobytes() for v in (values.data, values.indices, values.indptr)
        )
    values = values.to_numpy() if isinstance(values, pd.DataFrame) else np.asarray(values)
    return np.ascontiguousarray(values).tobytes()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]
