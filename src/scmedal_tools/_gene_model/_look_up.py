"""Look-ups in tables of effects that have a row for each level of a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def look_up(table: Tensor, *rows: Tensor, units: Tensor | None) -> Tensor:
    """Rows of a table; of its last axis only some units, unless ``None``."""
    if units is not None:
        return table[(*(row[..., None] for row in rows), units)]
    if not rows:
        return table
    # Whole rows are copied fastest by one index.
    first, *others = rows
    for other in others:
        first, table = first * table.shape[1] + other, table.flatten(0, 1)
    return F.embedding(first, table)


def effects_of(table: Tensor, level: Tensor, *rows: Tensor, units: Tensor | None = None) -> Tensor:
    """Effects in a table of a factor's levels, 0 for levels that it does not have."""
    known = ((level >= 0) & (level < len(table)))[..., None]
    return look_up(table, level.clamp(0, len(table) - 1), *rows, units=units).mul_(known)
