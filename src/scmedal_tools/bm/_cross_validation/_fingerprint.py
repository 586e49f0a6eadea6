"""Digests that identify data and functions, so that results of others are not reused."""

from __future__ import annotations

import functools
import hashlib
import inspect
import marshal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import joblib
import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    """Name of a method; of a function also a digest of all that its results depend on.

    One that cannot be identified is given a new name each time.
    """
    if not callable(method):
        return method
    try:
        content = _content(method, set())
    except Exception:  # of what users hand in, anything may refuse
        content = uuid4().bytes
    return f"{_name(method)} {_digest(content)}"


def _content(value: Any, seen: set[int]) -> bytes:
    """What identifies a value: for functions, their code and what this refers to."""
    if callable(value):
        if id(value) in seen:  # it refers to itself
            return b""
        seen.add(id(value))
    if isinstance(value, functools.partial):
        parts: list[Any] = [value.func, value.args, sorted(value.keywords.items())]
    elif inspect.ismethod(value):
        parts = [value.__func__, value.__self__]
    elif inspect.isfunction(value):
        used = inspect.getclosurevars(value)
        parts = [_code(value), value.__defaults__, value.__kwdefaults__]
        parts += [*_sorted(used.nonlocals), *_of_module(used.globals, value.__module__)]
    elif isinstance(value, list | tuple):
        parts = [len(value), *value]
    elif inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        return _name(value).encode()
    elif callable(value):
        parts = [type(value).__call__, *_sorted(vars(value))]
    else:
        return joblib.hash(value).encode()
    return b"|".join(_content(part, seen) for part in parts)


def _sorted(values: Mapping[str, Any]) -> list[Any]:
    return [part for item in sorted(values.items()) for part in item]


def _of_module(values: Mapping[str, Any], module: str) -> list[Any]:
    """The same, in which functions and classes of other modules are identified by name."""
    return _sorted(
        {
            name: value if getattr(value, "__module__", module) == module else _name(value)
            for name, value in values.items()
        }
    )


def _code(function: Callable) -> str | bytes:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return marshal.dumps(function.__code__)


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return name or type(value).__qualname__


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
