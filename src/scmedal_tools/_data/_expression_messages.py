"""Messages about expression that cannot be used or may be wrong: why, and how to fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import slots
from ._expression_kinds import expression_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from ._expression_kinds import ExpressionKind, Summary


COUNTS: frozenset[ExpressionKind] = frozenset({"counts", "even-counts"})
"""Kinds that are taken for raw counts; the last with a warning."""
NORMALISED: frozenset[ExpressionKind] = frozenset({"log-normalised", "too-few-values"})
"""Kinds that are taken for logarithms of normalised counts; the last with a warning."""


def what_it_holds(found: Summary) -> str:
    """Say what a matrix holds, after its name."""
    fractions, of_all = f"(fractions up to {found.maximum:,.3g})", f"of {found.n_cells:,} cells"
    return {
        "counts": f"holds raw counts (whole numbers up to {found.maximum:,.0f})",
        "even-counts": f"holds counts (whole numbers up to {found.maximum:,.0f}) of cells that "
        "have nearly the same total",
        "corrected-counts": f"looks like corrected counts {fractions}",
        "normalised": f"looks normalised, but not logged {fractions}",
        "log-normalised": f"looks log-normalised {fractions}",
        "log-counts": f"looks like logarithms of counts that were not normalised {fractions}",
        "log-twice": f"looks as if the logarithm had been taken twice {fractions}",
        "square-roots": f"looks like square roots of normalised counts {fractions}",
        "square-roots-of-counts": f"looks like square roots of counts {fractions}",
        "too-few-values": f"holds too few values to recognise their kind {fractions}",
        "unrecognised": f"holds values of a kind that was not recognised {fractions}",
        "not-logged": f"holds fractions up to {found.maximum:,.0f}, too large for logarithms",
        "negative": f"has negative values (scaled data?) in {found.n_negative:,} {of_all}",
        "non-finite": f"has NaN or infinite values in {found.n_non_finite:,} {of_all}",
    }[found.kind]


def to_logarithms(adata: AnnData, layer: str | None, kind: ExpressionKind) -> str:
    """How to make log-normalised expression of what is no logarithm."""
    if kind in COUNTS and layer is not None and _is_log_normalised(adata.X):
        return f"adata.X has it: leave out layer={layer!r}."
    x, argument = where(layer), _argument(layer)
    preprocess, log1p = _preprocess(layer), f"sc.pp.log1p(adata{argument})"
    if kind == "negative":
        return use_raw_data(adata, layer) or (
            f"Read the raw counts again, then run:\n{_preprocess(None)}"
        )
    return {
        "counts": f"Run:\n{preprocess}",
        "even-counts": f"Run:\n{preprocess}",
        "corrected-counts": f"Round them first:\n{x} = np.rint({x}); {preprocess}",
        "normalised": f"Run:\n{log1p}",
        "log-twice": f"Undo one of them:\n{x} = np.expm1({x})",
        "square-roots": f"Run:\n{x} = {_squares(adata, layer)}; {log1p}",
        "square-roots-of-counts": f"Run:\n{x} = np.rint({_squares(adata, layer)}); {preprocess}",
        "not-logged": "Normalise (not needed if that is done) and take the logarithm:\n"
        f"sc.pp.normalize_total(adata, target_sum=1e4{argument}); {log1p}",
        "non-finite": "To drop these cells:\n"
        f"adata = adata[np.isfinite(np.asarray({x}.sum(axis=1)).ravel())].copy()",
    }[kind]


def to_counts(adata: AnnData, layer: str | None, kind: ExpressionKind) -> str:
    """How to make raw counts of what is none, or why they are not needed."""
    x = where(layer)
    needless = "They need no preprocessing: pass them to a model as they are. "
    unknown = (
        f"If they are logarithms: {needless[0].lower()}{needless[1:]}"
        f"If they are corrected counts: {x} = np.rint({x}). "
    )
    logged = "Normalised data only need sc.pp.log1p(adata)"
    advice = {
        "corrected-counts": f"Round them: {x} = np.rint({x}). ",
        "normalised": f"{logged}. ",
        "log-normalised": needless,
        "log-counts": f"If the logarithm is natural: {x} = np.rint(np.expm1({x})). ",
        "log-twice": f"Undo one logarithm, {x} = np.expm1({x}), and pass them to a model. ",
        "square-roots": f"{logged}, after {x} = {_squares(adata, layer)}. ",
        "square-roots-of-counts": f"Run: {x} = np.rint({_squares(adata, layer)}). ",
        "too-few-values": unknown,
        "unrecognised": unknown,
        "not-logged": f"{logged}; round corrected counts: {x} = np.rint({x}). ",
        "negative": "Scaled data cannot be converted back: start again from the counts. ",
        "non-finite": "Drop these cells, or start again from the counts. ",
    }[kind]
    return f"{advice}{available_layers(adata)}{use_raw_data(adata, layer)}".rstrip()


def doubt(layer: str | None, kind: ExpressionKind) -> str:
    """What to make sure of before values of this kind are used; empty if all is well."""
    x = where(layer)
    if kind == "log-counts":
        return (
            "The sequencing depth of a cell then counts as expression. If all cells have the same "
            "depth already (downsampled, SCTransform) this is fine; if not, use the counts:\n"
            f"{x} = np.rint(np.expm1({x})); {_preprocess(layer)}"
        )
    if kind == "even-counts":
        return (
            "SCTransform's corrected counts (the counts of Seurat's assay SCT) look like this, "
            "and so do counts that were reduced to one depth. They are used as raw counts; if "
            "there are raw counts, use those: tests on counts take corrected ones for more "
            "precise than they are."
        )
    if kind == "too-few-values":
        return (
            "It is used as log-normalised. Make sure that it is: fewer than 100 values of these "
            "cells can be compared with each other, too few to distinguish logarithms from other "
            "fractions."
        )
    if kind == "unrecognised":
        return (
            "It is used as log-normalised, which is right for corrected or imputed counts that "
            "were normalised and logged. Corrected counts themselves (SoupX, CellBender, alevin) "
            f"have to be preprocessed:\n{x} = np.rint({x}); {_preprocess(layer)}"
        )
    return ""


def counts_layer(adata: AnnData, layer: str | None) -> str | None:
    """Layer with the counts, if that is another one."""
    counts = slots.COUNTS_LAYER
    return counts if counts in adata.layers and layer != counts else None


def use_raw_data(adata: AnnData, layer: str | None) -> str:
    """How to take the counts, or the logarithms, that the data still hold; empty without them."""
    counts, raw = counts_layer(adata, layer), adata.raw
    # The sums of a layer are no depths of cells where raw has more genes.
    unneeded = raw is None or (counts and raw.n_vars <= adata.n_vars)
    kept = None if unneeded else expression_kind(raw.X)
    if kept in COUNTS:
        return f"adata.raw has the counts. Run:\nadata = adata.raw.to_adata(); {_preprocess(None)}"
    if kept in NORMALISED:
        return (
            "adata.raw is log-normalised. Run:\nadata.X = adata.raw[:, adata.var_names].X.copy()"
        )
    return f"Run:\n{_preprocess(counts)}" if counts else ""


def where(layer: str | None) -> str:
    """The matrix, as code."""
    return "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def available_layers(adata: AnnData) -> str:
    """The layers there are, as a sentence."""
    # Since anndata 0.13 the mapping also holds X, under None.
    layers = [name for name in adata.layers if name is not None]
    return f"Available layers: {quoted(layers)}. " if layers else "There are no layers. "


def quoted(names: Sequence[object]) -> str:
    """The first three names."""
    shown = ", ".join(repr(str(name)) for name in names[:3])
    return f"{shown}, ..." if len(names) > 3 else shown


def _is_log_normalised(x: Any) -> bool:
    known = x is not None and not hasattr(x, "dask") and 0 not in x.shape
    return known and expression_kind(x) in NORMALISED


def _argument(layer: str | None) -> str:
    return "" if layer is None else f", layer={layer!r}"


def _preprocess(layer: str | None) -> str:
    return f"smt.pp.preprocess(adata{_argument(layer)})"


def _squares(adata: AnnData, layer: str | None) -> str:
    x = adata.X if layer is None else adata.layers[layer]
    # The ** of a sparse matrix is the product of matrices.
    return f"{where(layer)}.power(2)" if hasattr(x, "format") else f"{where(layer)} ** 2"
