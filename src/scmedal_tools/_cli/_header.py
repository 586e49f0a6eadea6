"""What the header of a file answers, before anything large is imported or read."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import h5py
import numpy as np

from ._console import fail

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

PRESETS = ("default", "paper", "paper-aml", "paper-asd", "paper-heart")
SCHEMES = ("cells", "donors")
MODELS = ("FE", "FEC", "RE")
COMPARATORS = ("ae", "aec", "aec_batch", "harmony", "pca", "saucie", "scanorama", "scanvi", "scvi")
SHOWN = 12


@dataclass(frozen=True)
class Header:
    """Names in an h5ad file."""

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
                layers, obsm = (tuple(file.get(name, ())) for name in ("layers", "obsm"))
                return cls(tuple(map(str, columns)), layers, obsm)
        except (OSError, KeyError):
            return None


def check_header(
    path: Path,
    columns: Mapping[str, str | Iterable[str] | None],
    layer: str | None,
    preset: str,
    models: Iterable[str] = (),
) -> None:
    """End the command if an option names what the file, or the package, does not have.

    Parameters
    ----------
    path
        The h5ad file.
    columns
        Columns of obs by the option that names them.
    layer, preset, models
        Values of these options.
    """
    header = Header.of(path)
    check_choice("--preset", preset, PRESETS)
    if header is None:
        return
    for option, names in columns.items():
        for name in [names] if isinstance(names, str) else names or ():
            check_choice(option, name, header.obs, "column of obs")
    if layer is not None:
        check_choice("--layer", layer, header.layers, "layer")
    for name in models:
        known = (*MODELS, *COMPARATORS, *header.obsm)
        check_choice("--models", name, known, "model, comparator or name in obsm")


def check_batches(path: Path, batch_key: str, targets: Collection[str]) -> None:
    """End the command if a target is not one of the batches, if the header is enough to know."""
    known = _levels(path, batch_key) if targets else None
    if known is not None:
        for name in targets:
            check_choice("--transform-batch", name, known, f"batch in obs[{batch_key!r}]")


def _levels(path: Path, column: str) -> list[str] | None:
    """Levels of a column as text; ``None`` where only anndata can read them."""
    try:
        with h5py.File(path) as file:
            obs = file["obs"]
            if isinstance(obs, h5py.Dataset) or "categories" in obs[column].attrs:
                return None  # as older versions wrote it
            return [str(level) for level in np.unique(_values(obs[column])).tolist()]
    except (OSError, KeyError):
        return None


def _values(element: h5py.Group | h5py.Dataset) -> np.ndarray:
    """Values of a column; of a categorical one each once."""
    if isinstance(element, h5py.Dataset):
        return element.asstr()[()] if h5py.check_string_dtype(element.dtype) else element[()]
    if "categories" not in element:
        return _values(element["values"])
    codes = np.unique(element["codes"])
    return _values(element["categories"])[codes[codes >= 0]]


def check_choice(option: str, value: str, known: Collection[str], what: str = "choice") -> None:
    """End the command if a value is not one of those that are known."""
    if value in known:
        return
    by_case = {name.lower(): name for name in known}
    near = get_close_matches(value.lower(), by_case, n=1)
    hint = f"Did you mean {by_case[near[0]]}? " if near else ""
    names = list(known)
    shown = f"{', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}" or "none"
    fail(f"{option} {value}: there is no such {what}. {hint}There are: {shown}.")
