"""Options that the header of a file refuses, before anything large is imported or read."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

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
# What is learned, compared or predicted beside the batches.
BESIDE_BATCHES = ("--labels-key", "--condition-key", "--target-key")

N_LISTED = 12


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
    from ._header import Header  # not for --help: it imports h5py

    header = Header.of(path)
    check_choice("--preset", preset, PRESETS)
    if header is None:
        return
    for option, names in columns.items():
        for name in [names] if isinstance(names, str) else names or ():
            check_choice(option, name, header.obs, "column of obs")
            if option in BESIDE_BATCHES and name == (batches := columns.get("--batch-key")):
                others = [column for column in header.obs if column != batches]
                fail(
                    f"{option} {name}: that is the --batch-key. Choose a column that says "
                    f"something else of the cells. There are: {_listed(others)}."
                )
    if layer is not None:
        check_choice("--layer", layer, header.layers, "layer")
    for name in models:
        known = (*MODELS, *COMPARATORS, *header.obsm)
        check_choice("--models", name, known, "model, comparator or name in obsm")


def check_batches(path: Path, batch_key: str, targets: Collection[str] = ()) -> None:
    """End the command if a column is none of batches, or a target not one of them.

    What the header is not enough to know is left to the reading of the file.
    """
    from ._header import Header, levels_of  # as above

    header, levels = Header.of(path), levels_of(path, batch_key)
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


def check_reference(path: Path, condition_key: str | None, reference: str | None) -> None:
    """End the command if the reference is no group of the condition."""
    from ._header import levels_of  # as above

    if reference is None:
        return
    if condition_key is None:
        fail(f"--reference {reference} is a group of --condition-key, which is missing.")
    levels = levels_of(path, condition_key)
    if levels is not None and find_level(levels, reference) is None:
        known = list(map(str, levels))
        check_choice("--reference", reference, known, f"group in obs[{condition_key!r}]")


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
    """The first names, without those of scvi-tools' own columns."""
    names = [name for name in names if not name.startswith("_scvi")]
    return f"{', '.join(names[:N_LISTED])}{', ...' if len(names) > N_LISTED else ''}" or "none"
