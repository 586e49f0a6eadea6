"""The header of an h5ad file, read without anndata, which takes seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Header:
    """Names in an h5ad file, and the number of its cells."""

    n_cells: int
    obs: tuple[str, ...]
    layers: tuple[str, ...]
    obsm: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> Header | None:
        """Read the names; ``None`` for a file of another kind, which reading it explains."""
        try:
            with h5py.File(path) as file:
                obs = file["obs"]
                of_table = isinstance(obs, h5py.Dataset)  # as older versions wrote it
                columns = obs.dtype.names if of_table else obs.attrs["column-order"]
                names = obs if of_table else obs[obs.attrs["_index"]]
                layers, obsm = (tuple(file.get(name, ())) for name in ("layers", "obsm"))
                return cls(_length(names), tuple(map(str, columns)), layers, obsm)
        except (OSError, KeyError):
            return None


def levels_of(path: Path, column: str) -> list[Any] | None:
    """Levels of a column; ``None`` where only anndata can read them."""
    try:
        with h5py.File(path) as file:
            obs = file["obs"]
            if isinstance(obs, h5py.Dataset) or "categories" in obs[column].attrs:
                return None  # as older versions wrote it
            levels = np.unique(_values(obs[column])).tolist()
            return [level for level in levels if level == level]  # without NaN
    except (OSError, KeyError):
        return None


def _length(element: h5py.Group | h5py.Dataset) -> int:
    """Length of a column, or of the table of an older version."""
    if isinstance(element, h5py.Group):
        element = element["codes" if "codes" in element else "values"]
    return len(element)


def _values(element: h5py.Group | h5py.Dataset) -> np.ndarray:
    """Values of a column; of a categorical one each once."""
    if isinstance(element, h5py.Dataset):
        return element.asstr()[()] if h5py.check_string_dtype(element.dtype) else element[()]
    if "categories" not in element:
        return _values(element["values"])
    codes = np.unique(element["codes"])
    return _values(element["categories"])[codes[codes >= 0]]
