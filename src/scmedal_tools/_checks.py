"""Checks of the user's input: what is wrong, in numbers, and the line of code that mends it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from scmedal_tools import _keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

ExpressionKind = Literal["counts", "log-normalised", "not-logged", "negative", "non-finite"]

# log2 of one million counts plus one, the largest that the usual normalisations give, is 19.9.
_LARGEST_LOG = 20.0
# Rows (columns of a CSC matrix) looked at together: bounds the memory for backed and dense data.
_BLOCK = 512


@dataclass(frozen=True)
class _Summary:
    n_cells: int
    n_non_finite: int
    n_negative: int
    whole: bool
    maximum: float

    @property
    def kind(self) -> ExpressionKind:
        if self.n_non_finite:
            return "non-finite"
        if self.n_negative:
            return "negative"
        if self.whole:
            return "counts"
        return "not-logged" if self.maximum > _LARGEST_LOG else "log-normalised"


def expression_kind(x: Any) -> ExpressionKind:
    """Tell what kind of expression values a matrix holds.

    The matrix is read in blocks, so backed data are never loaded as a whole and sparse data stay
    sparse.

    Parameters
    ----------
    x
        Cells x genes: a numpy array, a CSR or CSC matrix, or the backed form of any of them.

    Returns
    -------
    ``"counts"`` (whole numbers, 0/1 data included), ``"log-normalised"`` (fractions between 0 and
    20, which min-max scaled data are too), ``"not-logged"`` (fractions above 20, more than the
    logarithm of any normalised count), ``"negative"`` (z-scores or residuals) or ``"non-finite"``
    (some values NaN or infinite).

    Examples
    --------
    >>> import numpy as np
    >>> expression_kind(np.array([[0, 3], [12, 1]]))
    'counts'
    >>> expression_kind(np.log1p([[0, 3], [12, 1]]))
    'log-normalised'
    """
    return _summarise(x).kind


def check_log_normalised(adata: AnnData, layer: str | None = None) -> None:
    """Refuse expression that a model of log-normalised data cannot take.

    Parameters
    ----------
    adata
        Cells x genes, in memory or backed.
    layer
        Layer to check; ``None`` for ``adata.X``.

    Raises
    ------
    ValueError
        For raw counts, negative, NaN, infinite or never logged values, no cells, no genes, or a
        layer that does not exist. The message ends with the line that mends it.
    """
    summary = _summarise(expression_of(adata, layer))
    if summary.kind == "log-normalised":
        return
    where = _where(layer)
    raise ValueError(
        f"{where} {_describe(summary)}; log-normalised expression is needed. "
        f"{_mend_expression(adata, layer, summary.kind)}"
    )


def check_counts(adata: AnnData, layer: str | None = None) -> None:
    """Refuse expression that is not raw counts; parameters as in :func:`check_log_normalised`.

    Raises
    ------
    ValueError
        For anything but non-negative whole numbers, no cells, no genes, or a layer that does not
        exist. The message names the alternatives.
    """
    summary = _summarise(expression_of(adata, layer))
    if summary.kind == "counts":
        return
    advice = {
        "log-normalised": "They need no preprocessing: give them to a model as they are. ",
        "not-logged": "Normalised data only need sc.pp.log1p(adata); round corrected counts. ",
        "negative": "Scaled data cannot be turned back: start again from the counts. ",
        "non-finite": "Drop these cells, or start again from the counts. ",
    }[summary.kind]
    raise ValueError(
        f"{_where(layer)} {_describe(summary)}; raw counts (whole numbers) are needed. "
        f"{advice}{_layers_at_hand(adata)}{_use_counts_layer(adata, layer)}".rstrip()
    )


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
    ValueError
        If the column does not exist (the message lists columns that would do), has missing
        values, mixes text with other types or has fewer than ``min_levels`` levels.
    """
    if key not in adata.obs:
        raise ValueError(f"{what}={key!r} is not a column of adata.obs. {_candidates(adata)}")
    column = adata.obs[key]
    n_missing = int(column.isna().sum())
    if n_missing:
        raise ValueError(
            f"{what}={key!r} is missing in {n_missing:,} of {adata.n_obs:,} cells. "
            f"To make them a level of their own: adata.obs[{key!r}] = "
            f"adata.obs[{key!r}].astype(object).fillna({fill!r}).astype('category'). "
            f"To drop them:\nadata = adata[adata.obs[{key!r}].notna()].copy()"
        )
    texts = [level for level in column.unique() if isinstance(level, str)]
    n_levels = column.nunique()
    if 0 < len(texts) < n_levels:
        raise ValueError(
            f"{what}={key!r} has levels that are text ({_quoted(texts)}) and others that are not. "
            f"Run:\nadata.obs[{key!r}] = adata.obs[{key!r}].astype(str)"
        )
    if n_levels < min_levels:
        reason = "there is nothing to tell apart"
        if what == "batch_key":
            reason = "a random effect describes how batches differ from each other"
        raise ValueError(
            f"{what}={key!r} has {n_levels} level(s) ({_quoted(column.unique())}) in "
            f"{adata.n_obs:,} cells, and at least {min_levels} are needed: {reason}. "
            f"{_candidates(adata)}"
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
                    f"{key!r} and {other.name!r} divide the cells alike, so that their effects "
                    "cannot be told apart: leave one out."
                )
            if len(pairs) == other.nunique():
                warnings.warn(
                    f"Every {other.name!r} has a single {key!r}: the factors are nested. What all "
                    f"{other.name!r} of a {key!r} have in common is taken for its effect, and "
                    "intervals of it are far too narrow, as they do not count how few there are.",
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
            f"labels_key={key!r} has levels that are not text ({_quoted(others)}). "
            f"Run:\nadata.obs[{key!r}] = adata.obs[{key!r}].astype(str).astype('category')"
        )


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
                f"({_quoted(names[repeated].unique())}). "
                f"Run:\nadata.{axis}_make_unique()"
            )


def check_in_memory(adata: AnnData | MuData) -> None:
    """Refuse data that are backed by a file.

    Raises
    ------
    ValueError
        If they are. The message ends with the line that reads them.
    """
    if adata.isbacked:
        read = "adata.to_memory()" if hasattr(adata, "to_memory") else "mudata.read_h5mu(file)"
        raise ValueError(f"adata is backed by a file. Run:\nadata = {read}")


def expression_of(adata: AnnData, layer: str | None) -> Any:
    if layer is not None and layer not in adata.layers:
        raise ValueError(
            f"layer={layer!r} is not in adata.layers. {_layers_at_hand(adata)}".rstrip()
        )
    if 0 in adata.shape:
        raise ValueError(
            f"adata has {adata.n_obs:,} cells and {adata.n_vars:,} genes: nothing is left to "
            "learn from. Look at the last selection or filter before this line."
        )
    x = adata.X if layer is None else adata.layers[layer]
    if x is None:
        raise ValueError(f"adata.X is empty (None). {_layers_at_hand(adata)}".rstrip())
    return x


def _blocks(x: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first cell, block) along the axis in which the matrix is stored."""
    if getattr(x, "format", None) == "csc":
        for start in range(0, x.shape[1], _BLOCK):
            yield 0, x[:, start : start + _BLOCK]
    else:
        for start in range(0, x.shape[0], _BLOCK):
            yield start, x[start : start + _BLOCK]


def _summarise(x: Any) -> _Summary:
    non_finite = np.zeros(x.shape[0], dtype=bool)
    negative = np.zeros(x.shape[0], dtype=bool)
    whole, maximum = True, 0.0
    for first, block in _blocks(x):
        values = block.data if sp.issparse(block) else np.asarray(block)
        if not values.size:
            continue
        low, high = values.min(), values.max()
        maximum = max(maximum, float(high))
        # min() and max() carry NaN and infinity over: cells are looked up only in bad blocks.
        if not (np.isfinite(low) and np.isfinite(high)):
            non_finite[first + _cells_where(block, lambda v: ~np.isfinite(v))] = True
        if np.any(values < 0):
            negative[first + _cells_where(block, lambda v: v < 0)] = True
        whole = whole and (values.dtype.kind in "biu" or bool(np.all(values == np.floor(values))))
    return _Summary(x.shape[0], int(non_finite.sum()), int(negative.sum()), whole, maximum)


def _cells_where(block: Any, test: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if sp.issparse(block):
        block = block.tocoo(copy=False)
        return block.row[test(block.data)]
    return np.nonzero(test(np.asarray(block)))[0]


def _describe(summary: _Summary) -> str:
    of_all = f"of {summary.n_cells:,} cells"
    return {
        "counts": f"holds raw counts (whole numbers up to {summary.maximum:,.0f})",
        "log-normalised": f"looks log-normalised (fractions up to {summary.maximum:.3g})",
        "not-logged": f"holds fractions up to {summary.maximum:,.0f}, too large for logarithms",
        "negative": f"has negative values (scaled data?) in {summary.n_negative:,} {of_all}",
        "non-finite": f"has NaN or infinite values in {summary.n_non_finite:,} {of_all}",
    }[summary.kind]


def _mend_expression(adata: AnnData, layer: str | None, kind: ExpressionKind) -> str:
    where, layer_argument = _where(layer), "" if layer is None else f", layer={layer!r}"
    if kind == "counts":
        return f"Run:\nscmedal_tools.pp.preprocess(adata{layer_argument})"
    if kind == "non-finite":
        finite = f"np.isfinite(np.asarray({where}.sum(axis=1)).ravel())"
        return f"To drop these cells:\nadata = adata[{finite}].copy()"
    if kind == "not-logged":
        return (
            "Normalise (not needed if that is done) and take the logarithm:\n"
            f"sc.pp.normalize_total(adata, target_sum=1e4{layer_argument}); "
            f"sc.pp.log1p(adata{layer_argument})"
        )
    return _use_counts_layer(adata, layer) or (
        "Read the raw counts again, then run:\nscmedal_tools.pp.preprocess(adata)"
    )


def _use_counts_layer(adata: AnnData, layer: str | None) -> str:
    counts = _keys.COUNTS_LAYER
    if counts not in adata.layers or layer == counts:
        return ""
    return f"Run:\nscmedal_tools.pp.preprocess(adata, layer={counts!r})"


def _where(layer: str | None) -> str:
    return "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def _layers_at_hand(adata: AnnData) -> str:
    # Since anndata 0.13 the mapping also holds X, under None.
    layers = [name for name in adata.layers if name is not None]
    return f"Layers at hand: {_quoted(layers)}. " if layers else "There are no layers. "


def _candidates(adata: AnnData) -> str:
    def n_levels(column: pd.Series) -> int:
        return 0 if column.dtype.kind == "f" else column.nunique()

    # Columns with nearly as many levels as cells are names of cells, not groups.
    levels = {name: n_levels(column) for name, column in adata.obs.items()}
    found = [f"{name!r} ({n} levels)" for name, n in levels.items() if 2 <= n <= adata.n_obs / 2]
    if not found:
        return "No column of adata.obs groups the cells in 2 levels or more."
    more = ", ..." if len(found) > 10 else ""
    return f"Columns that group the cells: {', '.join(found[:10])}{more}."


def _quoted(names: Any) -> str:
    shown = ", ".join(repr(str(name)) for name in names[:3])
    return f"{shown}, ..." if len(names) > 3 else shown
