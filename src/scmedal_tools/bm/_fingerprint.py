"""What tells data and functions from others, so that results of other ones are not taken over."""

from __future__ import annotations

import hashlib
import inspect
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


def describe(method: str | Callable) -> str:
    """Name of a method; of a function also a digest of its source, or of what it compiles to."""
    if not callable(method):
        return method
    function = method if inspect.isroutine(method) else type(method).__call__
    try:
        content = inspect.getsource(function).encode()
    except (OSError, TypeError):
        content = getattr(getattr(function, "__code__", None), "co_code", b"")
    return f"{getattr(function, '__qualname__', 'function')} {_digest(content)}"


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
