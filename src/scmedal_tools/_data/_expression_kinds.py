"""What kind of expression values a matrix holds: counts, logarithms, or something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ExpressionKind = Literal[
    "counts",
    "even-counts",
    "corrected-counts",
    "normalised",
    "log-normalised",
    "log-counts",
    "log-twice",
    "square-roots",
    "square-roots-of-counts",
    "too-few-values",
    "unrecognised",
    "not-logged",
    "negative",
    "non-finite",
]

# log2 of one million counts plus one, the largest that the usual normalisations give, is 19.9.
_LARGEST_LOG = 20.0
# Rows (columns of a CSC matrix) looked at together: bounds the memory for backed and dense data.
_BLOCK = 512
# Cells, evenly spaced, of which the values are compared with each other.
_SAMPLE = 300
# A value is informative if it stands for 2 to 12 counts, where fractions are easy to see.
_INFORMATIVE = (1.2, 12.0)
_FEWEST_INFORMATIVE = 100
# Of any fractions a share of 0.04 lies as near to a whole number.
_TOLERANCE = 0.02
_SHARE_OF_MULTIPLES = 0.9
_SHARE_OF_WHOLE = 0.25
# Cells that were sequenced differ in depth by half of it and more in the data sets tried, those of
# SCTransform or of one depth by a tenth.
_SPREAD_OF_EVEN_DEPTH, _FEWEST_CELLS = 0.2, 30
# Totals of cells that were normalised agree but for rounding, also in half precision.
_SPREAD_OF_TOTALS = 0.01

_FUNCTIONS: Final[dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "log": np.expm1,
    "log2": lambda x: np.exp2(x) - 1,
    "log10": lambda x: 10.0**x - 1,
    "identity": lambda x: x,
    "square root": np.square,
    "log twice": lambda x: np.expm1(np.expm1(x)),
}
"""Inverses of what may have been done to normalised counts, in the order in which to try them.

Logarithms come first: of small numbers they are hardly different from the numbers themselves. The
squares of multiples are multiples, so that square roots come after the identity.
"""


@dataclass(frozen=True)
class Summary:
    """What a matrix holds, and the numbers to say it with."""

    kind: ExpressionKind
    n_cells: int
    n_non_finite: int
    """Cells with values that are NaN or infinite."""
    n_negative: int
    """Cells with negative values."""
    maximum: float


class _CellValues(NamedTuple):
    """Values other than zero of some cells, and the number of the cell of each."""

    values: np.ndarray
    cells: np.ndarray


def expression_kind(x: Any) -> ExpressionKind:
    """Find out what kind of expression values a matrix contains.

    The matrix is read in blocks, so backed data are never loaded as a whole and sparse data stay
    sparse.

    Parameters
    ----------
    x
        Cells x genes: a numpy array, a CSR or CSC matrix, or the backed form of any of them.

    Returns
    -------
    The first that is true of all values:

    ``"non-finite"``
        Some values are NaN or infinite.
    ``"negative"``
        Some values are negative: z-scores or residuals.
    ``"counts"``
        Whole numbers; 0/1 data included.
    ``"even-counts"``
        Whole numbers, not only 0 and 1, whose totals hardly differ between 30 cells or more:
        SCTransform's corrected counts, or counts reduced to one depth.

    or of a sample of 300 cells, in which the counts of a cell are multiples of its smallest, once
    what was done to them is undone:

    ``"log-normalised"``
        Logarithms (base e, 2 or 10) of normalised counts plus one.
    ``"log-counts"``
        Logarithms of whole numbers plus one, whose totals differ between cells.
    ``"normalised"``
        Multiples that are no logarithms.
    ``"square-roots"``, ``"square-roots-of-counts"``
        Square roots of normalised counts, or of whole numbers.
    ``"log-twice"``
        Logarithms of logarithms.
    ``"corrected-counts"``
        No multiples, but a quarter of the values or more are whole numbers.

    or, where the values are no multiples: ``"not-logged"`` above 20, more than the logarithm of
    any normalised count, ``"log-normalised"`` if the totals before the logarithm agree,
    ``"normalised"`` if the values have the same total in all cells, ``"too-few-values"`` if fewer
    than 100 can be compared, and ``"unrecognised"`` for the rest.

    Examples
    --------
    >>> import numpy as np
    >>> expression_kind(np.array([[0, 3], [12, 1]]))
    'counts'
    >>> expression_kind(np.log1p([[0, 300.5], [120.2, 1]]))
    'too-few-values'
    """
    return summarise_expression(x).kind


def summarise_expression(x: Any) -> Summary:
    """Find out what kind of values a matrix contains, as :func:`expression_kind`, in numbers."""
    non_finite = np.zeros(x.shape[0], dtype=bool)
    negative = np.zeros(x.shape[0], dtype=bool)
    whole, maximum = True, 0.0
    chosen = np.unique(np.linspace(0, x.shape[0] - 1, _SAMPLE, dtype=int))
    samples = []
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
        rows = chosen[(chosen >= first) & (chosen < first + block.shape[0])]
        samples.append(_cell_values(block, rows - first, first))
    n_non_finite, n_negative = int(non_finite.sum()), int(negative.sum())
    kind: ExpressionKind
    if n_non_finite:
        kind = "non-finite"
    elif n_negative:
        kind = "negative"
    elif not samples:
        kind = "counts"
    else:
        sample = _CellValues(*map(np.concatenate, zip(*samples, strict=True)))
        kind = _kind_of_counts(sample) if whole else _kind_of_fractions(sample, maximum)
    return Summary(kind, x.shape[0], n_non_finite, n_negative, maximum)


def _blocks(x: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first cell, block) along the axis in which the matrix is stored."""
    if getattr(x, "format", None) == "csc":
        for start in range(0, x.shape[1], _BLOCK):
            yield 0, x[:, start : start + _BLOCK]
    else:
        for start in range(0, x.shape[0], _BLOCK):
            yield start, x[start : start + _BLOCK]


def _cells_where(block: Any, test: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if sp.issparse(block):
        block = block.tocoo(copy=False)
        return block.row[test(block.data)]
    return np.nonzero(test(np.asarray(block)))[0]


def _cell_values(block: Any, rows: np.ndarray, first: int) -> _CellValues:
    found = block[rows] if sp.issparse(block) else np.asarray(block)[rows]
    found = sp.coo_array(found.astype(np.float64))  # there are none of half precision
    values, cells = found.data, rows[found.coords[0]] + first
    return _CellValues(values[values != 0], cells[values != 0])


def _kind_of_counts(sample: _CellValues) -> ExpressionKind:
    totals = _totals(sample)
    if totals.size < _FEWEST_CELLS or sample.values.max() <= 1:  # cells detect as many genes
        return "counts"
    return "even-counts" if totals.std() < _SPREAD_OF_EVEN_DEPTH * totals.mean() else "counts"


def _kind_of_fractions(sample: _CellValues, maximum: float) -> ExpressionKind:
    # Beyond, an exponential function overflows; what is larger is no logarithm.
    functions = _FUNCTIONS if maximum <= _LARGEST_LOG else {"identity": _FUNCTIONS["identity"]}
    functions = functions | {"square root": _FUNCTIONS["square root"]}
    for name, undo in functions.items():
        with np.errstate(over="ignore", invalid="ignore"):
            counts = _CellValues(undo(sample.values), sample.cells)
            if not _are_multiples(counts):
                continue
        if name == "identity":
            return "normalised"
        if name == "log twice":
            return "log-twice"
        if name == "square root":
            return "square-roots-of-counts" if _are_whole(counts) else "square-roots"
        return "log-counts" if _are_whole(counts) and not _agree(counts) else "log-normalised"
    if np.mean(sample.values == np.rint(sample.values)) > _SHARE_OF_WHOLE:
        return "corrected-counts"
    logs = [_FUNCTIONS[name] for name in ("log", "log2", "log10") if name in functions]
    # First, as identical cells have the same total before and after the logarithm.
    if any(_agree(_CellValues(undo(sample.values), sample.cells)) for undo in logs):
        return "log-normalised"
    if _agree(sample):
        return "normalised"
    if maximum > _LARGEST_LOG:
        return "not-logged"
    return "too-few-values" if _informative(sample).size < _FEWEST_INFORMATIVE else "unrecognised"


def _informative(sample: _CellValues) -> np.ndarray:
    """Values in units of the smallest of their cell, where a fraction would be seen."""
    smallest = np.full(sample.cells.max(initial=0) + 1, np.inf)
    np.minimum.at(smallest, sample.cells, sample.values)
    multiples = sample.values / smallest[sample.cells]
    return multiples[(multiples > _INFORMATIVE[0]) & (multiples < _INFORMATIVE[1])]


def _are_multiples(sample: _CellValues) -> bool:
    informative = _informative(sample)
    if informative.size < _FEWEST_INFORMATIVE:
        return False
    near = np.abs(informative - np.rint(informative)) < _TOLERANCE
    return bool(near.mean() > _SHARE_OF_MULTIPLES)


def _are_whole(sample: _CellValues) -> bool:
    small = sample.values[sample.values < _INFORMATIVE[1]]
    if small.size < _FEWEST_INFORMATIVE:
        return False
    return bool(np.all(np.abs(small - np.rint(small)) < _TOLERANCE))


def _agree(sample: _CellValues) -> bool:
    """Whether the cells have the same total."""
    totals = _totals(sample)
    return totals.size > 1 and bool(totals.std() < _SPREAD_OF_TOTALS * totals.mean())


def _totals(sample: _CellValues) -> np.ndarray:
    """Totals of the cells that have any."""
    totals = np.bincount(sample.cells, sample.values)
    return totals[totals > 0]
