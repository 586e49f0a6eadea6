"""Checks of the user's input: what is wrong, in numbers, and the line of code that fixes it."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import slots
from ._check_cells import check_cells, check_read, expression_of, read_first
from ._expression_kinds import summarise_expression
from ._expression_messages import (
    COUNTS,
    NORMALISED,
    counts_layer,
    doubt,
    quoted,
    to_counts,
    to_logarithms,
    what_it_holds,
    where,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ._expression_kinds import ExpressionKind, Summary

LOGARITHMS: frozenset[ExpressionKind] = NORMALISED | {"log-counts", "unrecognised"}
"""Kinds that models take; all but the log-normalised with a warning."""


MANY_FRACTIONS = 20
"""Levels with fractions, such as 0.5, above which a column is a measurement."""
FEW_CELLS = 10
"""Cells of a typical batch below which a column is hardly one of batches."""


class ExpressionError(ValueError):
    """Expression of a kind that cannot be used.

    Attributes
    ----------
    problem
        What is wrong; the message adds how to fix it in Python.
    counts_layer
        Layer that holds the counts, if another one does.
    """

    def __init__(self, problem: str, advice: str, counts_layer: str | None):
        super().__init__(f"{problem} {advice}")
        self.problem, self.counts_layer = problem, counts_layer


def check_log_normalised(
    adata: AnnData, layer: str | None = None, *, may_be_few: bool = False
) -> ExpressionKind:
    """Refuse expression that a model of log-normalised data cannot take.

    Parameters
    ----------
    adata
        Cells x genes, in memory or backed.
    layer
        Layer to check; ``None`` for ``adata.X``.
    may_be_few
        Whether there may be too few values to recognise their kind, as in cells for a model that
        is trained: then that gets no warning.

    Returns
    -------
    str
        What the values are taken for, one of :data:`LOGARITHMS`.

    Raises
    ------
    ValueError
        For anything but logarithms, no cells, no genes, or a layer that does not exist. The
        message ends with the line that fixes it.

    Warns
    -----
    UserWarning
        For logarithms of counts that were not normalised, fractions of an unknown kind, and too
        few values.
    """
    found = summarise_expression(expression_of(adata, layer))
    if found.kind not in LOGARITHMS:
        problem = f"{where(layer)} {what_it_holds(found)}; log-normalised expression is needed."
        advice = read_first(adata, to_logarithms(adata, layer, found.kind))
        raise ExpressionError(problem, advice, counts_layer(adata, layer))
    if not (may_be_few and found.kind == "too-few-values"):
        warn_of_doubt(adata, layer, found)
    return found.kind


def warn_of_doubt(adata: AnnData, layer: str | None, found: Summary) -> None:
    """Warn of values that are used, but may be of another kind than they are taken for."""
    if doubtful := doubt(layer, found.kind):
        message = read_first(adata, f"{where(layer)} {what_it_holds(found)}. {doubtful}")
        warnings.warn(message, UserWarning, stacklevel=3)


def check_counts(adata: AnnData, layer: str | None = None) -> ExpressionKind:
    """Refuse expression that is not raw counts; parameters as in :func:`check_log_normalised`.

    Returns
    -------
    str
        What the values are taken for, one of :data:`COUNTS`.

    Raises
    ------
    ValueError
        For anything but non-negative whole numbers, no cells, no genes, or a layer that does not
        exist. The message names the alternatives.

    Warns
    -----
    UserWarning
        For counts of cells that have nearly the same total.
    """
    found = summarise_expression(expression_of(adata, layer))
    if found.kind not in COUNTS:
        problem = f"{where(layer)} {what_it_holds(found)}; raw counts (whole numbers) are needed."
        advice = read_first(adata, to_counts(adata, layer, found.kind))
        raise ExpressionError(problem, advice, counts_layer(adata, layer))
    warn_of_doubt(adata, layer, found)
    return found.kind


def check_obs(
    adata: AnnData,
    key: str,
    what: str = "batch_key",
    min_levels: int = 2,
    fill: str = "unknown",
) -> None:
    """Refuse an ``obs`` column that cannot serve as a grouping of the cells.

    Parameters
    ----------
    adata
        Annotated data; only ``obs`` is read.
    key
        Column to check.
    what
        The argument by which the user named it, for the message.
    min_levels
        Fewest distinct values; categories without a cell do not count.
    fill
        Level that the message suggests for missing values.

    Raises
    ------
    TypeError
        If these are no cells, or several columns are named.
    ValueError
        If the column does not exist (the message lists columns that would do), has missing
        values, mixes text with other types, has fewer than ``min_levels`` levels, or, as the
        batch, has many levels with fractions or a level for nearly every cell.
    """
    check_cells(adata)
    check_read(adata.obs)
    if not isinstance(key, Hashable):
        raise TypeError(f"{what}={key!r} is no name: pass that of one column.")
    if key not in adata.obs:
        instead = _candidates(adata)
        if holders := [
            name for name, part in getattr(adata, "mod", {}).items() if key in part.obs
        ]:
            instead = f"Run:\nmdata.obs[{key!r}] = mdata[{holders[0]!r}].obs[{key!r}]"
        raise ValueError(f"{what}={key!r} is not a column of adata.obs. {instead}")
    column = adata.obs[key]
    n_missing = int(column.isna().sum())
    if n_missing:
        message = f"{what}={key!r} is missing in {n_missing:,} of {adata.n_obs:,} cells. "
        if not pd.api.types.is_numeric_dtype(column):  # a name among numbers would not do
            message += (
                f"To make them a level of their own: adata.obs[{key!r}] = "
                f"adata.obs[{key!r}].astype(object).fillna({fill!r}).astype('category'). "
            )
        message += f"To drop them:\nadata = adata[adata.obs[{key!r}].notna()].copy()"
        raise ValueError(read_first(adata, message))
    texts = [level for level in column.unique() if isinstance(level, str)]
    n_levels = column.nunique()
    if 0 < len(texts) < n_levels:
        raise ValueError(
            f"{what}={key!r} has levels that are text ({quoted(texts)}) and others that are not. "
            f"Run:\nadata.obs[{key!r}] = adata.obs[{key!r}].astype(str)"
        )
    if n_levels < min_levels:
        reason = "there is nothing to compare"
        if what == "batch_key":
            reason = "a random effect describes how batches differ from each other"
        raise ValueError(
            f"{what}={key!r} has {n_levels} level(s) ({quoted(column.unique())}) in "
            f"{adata.n_obs:,} cells, and at least {min_levels} are needed: {reason}. "
            f"{_candidates(adata)}"
        )
    fractions = _fractions(column) if what == "batch_key" else []
    if len(fractions) > MANY_FRACTIONS:
        raise ValueError(
            f"{what}={key!r} has {len(fractions):,} levels that are numbers with fractions "
            f"({quoted(fractions)}): it looks like a measurement. Choose a column such as the "
            f"donor or sample. {_candidates(adata)} If these are names of batches, run:\n"
            f"adata.obs[{key!r}] = adata.obs[{key!r}].astype(str).astype('category')"
        )
    if what == "batch_key" and n_levels > adata.n_obs / 2:
        raise ValueError(
            f"{what}={key!r} has {n_levels:,} levels in {adata.n_obs:,} cells: it looks like a "
            "measurement or the names of the cells, and a batch needs several cells. Choose a "
            f"column such as the donor or sample. {_candidates(adata)}"
        )


def warn_of_small_batches(batch: pd.Series, stacklevel: int) -> None:
    """Warn if most batches have so few cells that the column may be something else.

    Parameters
    ----------
    batch
        Batch of each cell.
    stacklevel
        Of the caller's caller, counted from the caller.
    """
    sizes = batch.value_counts()
    median = sizes[sizes > 0].median()  # a category without a cell is no batch
    if median < FEW_CELLS:
        warnings.warn(
            f"Half of the {batch.nunique():,} levels of {batch.name!r} have {median:.0f} cells or "
            "fewer: is it a batch, such as a donor or sample? The effects of batches of so few "
            "cells are hardly known.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def check_factors(adata: AnnData, keys: Sequence[str], batch: pd.Series) -> None:
    """Refuse columns that cannot serve as further factors beside the batch.

    Raises
    ------
    ValueError
        As :func:`check_obs`, for more than two columns, one named twice, or one that divides the
        cells as another does.
    """
    if isinstance(keys, str):
        raise ValueError(f"random_effect_keys takes a list: write [{keys!r}].")
    if len(keys) > 2 or len({batch.name, *keys}) <= len(keys):
        raise ValueError(
            f"random_effect_keys={list(keys)!r}: name one or two columns other than batch_key, "
            "each once."
        )
    columns = [batch]
    for key in keys:
        check_obs(adata, key, what="random_effect_keys")
        column = adata.obs[key]
        for other in columns:
            pairs = set(zip(column.astype(str), other.astype(str), strict=True))
            if len(pairs) == column.nunique() == other.nunique():
                raise ValueError(
                    f"{key!r} and {other.name!r} divide the cells identically, so their effects "
                    "cannot be separated: leave one out."
                )
            if len(pairs) == other.nunique():
                warnings.warn(
                    f"Every {other.name!r} has a single {key!r}: the factors are nested. What all "
                    f"{other.name!r} of a {key!r} have in common counts as its effect, and the "
                    "intervals of this effect are far too narrow, because they ignore how few "
                    f"{other.name!r} there are.",
                    UserWarning,
                    stacklevel=4,
                )
        columns.append(column)


def check_labels(adata: AnnData, key: str, unlabeled_category: str = "unlabeled") -> None:
    """Refuse a column that cannot serve as cell types; parameters as in :func:`check_obs`.

    Raises
    ------
    ValueError
        As :func:`check_obs`, and if the cell types are not text.
    """
    check_obs(adata, key, what="labels_key", fill=unlabeled_category)
    others = [level for level in adata.obs[key].unique() if not isinstance(level, str)]
    if others:
        raise ValueError(
            f"labels_key={key!r} has levels that are not text ({quoted(others)}). "
            f"Run:\nadata.obs[{key!r}] = adata.obs[{key!r}].astype(str).astype('category')"
        )


def check_interval(interval: float) -> None:
    """Refuse an interval that is not a share."""
    if not 0 < interval < 1:
        raise ValueError(f"interval={interval} is outside its range: pass a share, such as 0.9.")


def check_names(adata: AnnData) -> None:
    """Refuse duplicate gene or cell names.

    Raises
    ------
    ValueError
        If ``var_names`` or ``obs_names`` are not unique.
    """
    for axis, noun in (("var_names", "genes"), ("obs_names", "cells")):
        names = getattr(adata, axis)
        repeated = names.duplicated(keep=False)
        if repeated.any():
            raise ValueError(
                f"{repeated.sum():,} of {len(names):,} {noun} share their name with another "
                f"({quoted(names[repeated].unique())}). "
                f"Run:\nadata.{axis}_make_unique()"
            )


def _fractions(column: pd.Series) -> list[Any]:
    """Levels that are no whole numbers, of a column of numbers."""
    levels = column.unique()
    return [x for x in levels if isinstance(x, (float, np.floating)) and not float(x).is_integer()]


def _candidates(adata: AnnData) -> str:
    def n_levels(column: pd.Series) -> int:
        return 0 if column.dtype.kind == "f" else column.nunique()

    # Columns with nearly as many levels as cells are names of cells, not groups.
    names = slots.without_those_of_scvi(adata.obs)
    levels = {name: n_levels(adata.obs[name]) for name in names}
    found = [f"{name!r} ({n} levels)" for name, n in levels.items() if 2 <= n <= adata.n_obs / 2]
    if not found:
        return "No column of adata.obs groups the cells in 2 levels or more."
    more = ", ..." if len(found) > 10 else ""
    return f"Columns that group the cells: {', '.join(found[:10])}{more}."
