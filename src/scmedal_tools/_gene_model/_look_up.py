"""Look-ups in tables of effects that have a row for each level of a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def look_up(table: Tensor, *rows: Tensor, units: Tensor | None) -> Tensor:
    """Rows of a table; of its last axis only some units, unless ``None``."""
    if units is None:
        return table[rows]
    return table[(*(row[:, None] for row in rows), units)]


def effects_of(table: Tensor, level: Tensor, *rows: Tensor, units: Tensor | None = None) -> Tensor:
    """Effects in a table of a factor's levels, 0 for levels that it does not have."""
    known = ((level >= 0) & (level < len(table)))[:, None]
    return look_up(table, level.clamp(0, len(table) - 1), *rows, units=units) * known
