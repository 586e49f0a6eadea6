"""What the header of a file answers, before anything large is imported or read."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from scmedal_tools._find_level import find_level

from ._console import fail

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

# Repeated from the package, which imports much; a test compares them.
PRESETS = ("default", "paper", "paper-aml", "paper-asd", "paper-heart")
FEWEST_FOLDS = {"cells": 3, "donors": 2}
SCHEMES = tuple(FEWEST_FOLDS)
MODELS = ("FE", "FEC", "RE")
COMPARATORS = ("ae", "aec", "aec_batch", "harmony", "pca", "saucie", "scanorama", "scanvi", "scvi")
MANY_FRACTIONS = 20

N_LISTED = 12


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


def check_batches(path: Path, batch_key: str, targets: Collection[str] = ()) -> None:
    """End the command if a column is none of batches, or a target not one of them.

    What the header is not enough to know is left to the reading of the file.
    """
    header, levels = Header.of(path), _levels(path, batch_key)
    if header is None or levels is None:
        return
    if problem := _problem(levels, header.n_cells):
        others = [name for name in header.obs if name != batch_key]
        fail(
            f"--batch-key {batch_key} {problem}. Choose a column such as the donor or sample. "
            f"There are: {_listed(others)}."
        )
    known = list(map(str, levels))
    for name in targets:
        if find_level(known, name) is None:
            check_choice("--transform-batch", name, known, f"batch in obs[{batch_key!r}]")


def _problem(levels: list[Any], n_cells: int) -> str:
    """Why levels cannot be batches, by the rules of the models; empty if they can."""
    shown = ", ".join(map(str, levels[:3])) + (", ..." if len(levels) > 3 else "")
    fractions = [x for x in levels if isinstance(x, float) and not x.is_integer()]
    if len(levels) < 2:
        return (
            f"has {len(levels)} level(s) ({shown}), and at least 2 are needed: a random effect "
            "describes how batches differ from each other"
        )
    if len(fractions) > MANY_FRACTIONS:
        return (
            f"has {len(fractions):,} levels that are numbers with fractions ({shown}): it looks "
            "like a measurement. If these are names of batches, save them as text"
        )
    if len(levels) > n_cells / 2:
        return (
            f"has {len(levels):,} levels ({shown}) in {n_cells:,} cells: it looks like a "
            "measurement or the names of the cells, and a batch needs several cells"
        )
    return ""


def _levels(path: Path, column: str) -> list[Any] | None:
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


def check_n_folds(n_folds: int, scheme: str) -> None:
    """End the command if there are fewer folds than a scheme needs."""
    if n_folds < (fewest := FEWEST_FOLDS[scheme]):
        fail(f"--n-folds {n_folds}: --scheme {scheme} needs at least {fewest}.")


def check_choice(option: str, value: str, known: Collection[str], what: str = "choice") -> None:
    """End the command if a value is not one of those that are known."""
    if value in known:
        return
    by_case = {name.lower(): name for name in known}
    near = get_close_matches(value.lower(), by_case, n=1)
    hint = f"Did you mean {by_case[near[0]]}? " if near else ""
    fail(f"{option} {value}: there is no such {what}. {hint}There are: {_listed(known)}.")


def _listed(names: Collection[str]) -> str:
    """The first names."""
    names = list(names)
    return f"{', '.join(names[:N_LISTED])}{', ...' if len(names) > N_LISTED else ''}" or "none"
