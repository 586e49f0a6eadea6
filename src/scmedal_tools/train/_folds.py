"""Folds of a cross-validation, over cells or over whole batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from scmedal_tools._data import check_obs
from scmedal_tools._docs import with_shared_parts

from ._splits import stratified_split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

Scheme = Literal["cells", "donors"]

# Of the cells of the donors that are not held out, how many are for validation.
VALIDATION_SIZE = 0.25


class Folds(NamedTuple):
    """Result of :func:`cross_validation_folds`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> folds = smt.train.cross_validation_folds(adata, "donor", "cell_type")
    >>> folds.rare
    donor     cell_type
    donor_01  type_3       3
    donor_02  type_3       2
    donor_04  type_1       3
    dtype: int64
    """

    splits: list[list[np.ndarray]]
    """Positions of the training, validation and test cells of each fold."""
    rare: pd.Series
    """Cells of each combination of batch and cell type that has fewer cells than folds."""


@with_shared_parts
def cross_validation_folds(
    adata: AnnData,
    batch_key: str,
    labels_key: str,
    *,
    n_folds: int = 5,
    scheme: Scheme = "cells",
    condition_keys: Sequence[str] = (),
    seed: int = 0,
) -> Folds:
    """Divide cells into folds, each of which is the test set once (scMEDAL, section 4.3).

    Parameters
    ----------
    adata
        Cells; only ``obs`` is read.
    %(columns)s
    n_folds
        Number of folds.
    scheme
        ``"cells"``: every combination of batch and cell type is spread evenly over the folds. In
        turn one fold is the test set, the next one the validation set and the others are for
        training. ``"donors"``: whole batches are held out for testing, as a claim about new donors
        needs; a quarter of the other batches' cells is for validation.
    condition_keys
        With ``scheme="donors"``: columns that are constant within each batch. Every fold gets
        batches of each combination of them.
    seed
        Seed of the division.

    Returns
    -------
    Folds
        Positions for ``model.train(datasplitter_kwargs={"external_indexing": split})``, and the
        combinations too rare to be in every test set.

    Raises
    ------
    ValueError
        If a column does not exist or has gaps, there are too few folds, or batches of a condition,
        for the scheme, or a batch would have no training cell.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> folds = smt.train.cross_validation_folds(adata, "donor", "cell_type")
    >>> [len(cells) for cells in folds.splits[0]]
    [144, 48, 48]
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"scheme={scheme!r} is not one of {get_args(Scheme)}.")
    fewest = 3 if scheme == "cells" else 2
    if n_folds < fewest:
        raise ValueError(f"n_folds={n_folds}: scheme={scheme!r} needs at least {fewest}.")
    for what, key in (
        ("batch_key", batch_key),
        ("labels_key", labels_key),
        *(("condition_keys", key) for key in condition_keys),
    ):
        check_obs(adata, key, what, min_levels=1)
    obs = adata.obs
    strata = obs.groupby([batch_key, labels_key], observed=True)
    sizes = strata.size()
    if scheme == "cells":
        splits = _over_cells(strata.ngroup().to_numpy(), n_folds, seed)
    else:
        splits = _over_batches(obs, [batch_key, labels_key], condition_keys, n_folds, seed)
    _check_training(obs[batch_key].astype(str).to_numpy(), splits, scheme)
    return Folds(splits, sizes[sizes < n_folds])


def _over_cells(strata: np.ndarray, n_folds: int, seed: int) -> list[list[np.ndarray]]:
    tests = _divide(strata, n_folds, seed)
    splits = []
    for i, test in enumerate(tests):
        validation = tests[(i + 1) % n_folds]
        rest = np.setdiff1d(np.arange(len(strata)), np.concatenate([test, validation]))
        splits.append([rest, validation, test])
    return splits


def _over_batches(
    obs: pd.DataFrame,
    strata_keys: list[str],
    condition_keys: Sequence[str],
    n_folds: int,
    seed: int,
) -> list[list[np.ndarray]]:
    batches = obs[strata_keys[0]].astype(str).to_numpy()
    names, first = np.unique(batches, return_index=True)
    conditions = np.full(len(names), "all batches", dtype=object)
    if condition_keys:
        of_cells = obs[list(condition_keys)].astype(str).agg(" / ".join, axis=1).to_numpy()
        conditions = of_cells[first]
        mixed = names[pd.Series(of_cells).groupby(batches).nunique().loc[names].to_numpy() > 1]
        if len(mixed):
            raise ValueError(
                f"{list(condition_keys)} vary within {len(mixed)} batches ({_some(mixed)}): folds "
                "of whole batches can only be balanced for what is constant within each."
            )
    for condition, count in pd.Series(conditions).value_counts()[::-1].items():
        if count < n_folds:
            fewer = f"Pass n_folds={count} or less" if count > 1 else "Take other cells"
            columns = " / ".join(condition_keys) or "condition"
            or_else = ", or balance the folds for fewer columns" if len(condition_keys) > 1 else ""
            raise ValueError(
                f"Only {count} of the batches have the {columns} {condition!r} "
                f"({_some(names[conditions == condition])}), fewer than "
                f"n_folds={n_folds}: every fold needs one to test on. {fewer}{or_else}."
            )
    splits = []
    for tested in _divide(pd.factorize(conditions)[0], n_folds, seed):
        held_out = np.isin(batches, names[tested])
        others = np.flatnonzero(~held_out)
        sizes = (1 - VALIDATION_SIZE, VALIDATION_SIZE, 0.0)
        train, validation, _ = stratified_split(obs.iloc[others], strata_keys, sizes, seed)
        splits.append([others[train], others[validation], np.flatnonzero(held_out)])
    return splits


def _divide(classes: np.ndarray, n_folds: int, seed: int) -> list[np.ndarray]:
    """Positions in each fold, over which every class is spread as evenly as it can be."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(classes))
    order = order[np.argsort(classes[order], kind="stable")]
    # Dealt in turn, class after class, so that folds differ by one cell at most in each class.
    return [np.sort(order[i::n_folds]) for i in range(n_folds)]


def _check_training(batches: np.ndarray, splits: list[list[np.ndarray]], scheme: Scheme) -> None:
    names, missing = set(batches), set()
    for train, _, test in splits:
        held_out = set(batches[test]) if scheme == "donors" else set()
        missing |= names - held_out - set(batches[train])
    if missing:
        raise ValueError(
            f"{len(missing)} batches are too small to have training cells in every fold "
            f"({_some(sorted(missing))}). Leave them out, or merge them with others."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else "")
