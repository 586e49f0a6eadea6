"""Codes that say of a cell which level it has of each factor of the random effects.

The first factor is the batch. A code packs the levels into one number, so that it travels as the
batch code alone does: with one factor it is that. Level -1 is the population, in which effects are
at their mean, 0; levels beyond those trained on are batches that the model has not seen.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

POPULATION = -1
_BITS = 20
_MASK = 2**_BITS - 1


def pack(levels: Sequence[Tensor]) -> Tensor:
    """Codes of cells from their levels of each factor, all of shape ``(n_cells,)``."""
    shifted = ((level + 1) << (_BITS * factor) for factor, level in enumerate(levels))
    return reduce(add, shifted) - 1


def level_of(code: Tensor, factor: int = 0) -> Tensor:
    """Level of each cell of one factor, of shape ``(n_cells,)``."""
    return (((code + 1) >> (_BITS * factor)) & _MASK) - 1


def with_level(code: Tensor, factor: int, level: Tensor | int) -> Tensor:
    """Codes with the level of one factor replaced."""
    return code + (level - level_of(code, factor)) * 2 ** (_BITS * factor)


def look_up(table: Tensor, *rows: Tensor, units: Tensor | None) -> Tensor:
    """Rows of a table; of its last axis only some units, unless ``None``."""
    if units is None:
        return table[rows]
    return table[(*(row[:, None] for row in rows), units)]


def effects_of(table: Tensor, level: Tensor, *rows: Tensor, units: Tensor | None = None) -> Tensor:
    """Effects in a table of a factor's levels, 0 for levels that it does not have."""
    known = ((level >= 0) & (level < len(table)))[:, None]
    return look_up(table, level.clamp(0, len(table) - 1), *rows, units=units) * known
