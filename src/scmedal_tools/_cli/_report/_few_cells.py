"""Groups of cells that are too small to be compared."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING

from scmedal_tools import tl

if TYPE_CHECKING:
    import pandas as pd

MIN_CELLS: int = signature(tl.group_effects).parameters["min_cells"].default
N_NAMED = 5


def few_cells(n_cells: pd.DataFrame) -> str:
    """Say which levels have few cells in how many groups; nothing if there are none.

    Parameters
    ----------
    n_cells
        Number of cells, groups x levels.
    """
    n_groups = (n_cells < MIN_CELLS).sum().sort_values(ascending=False, kind="stable")
    n_groups = n_groups[n_groups > 0]
    if n_groups.empty:
        return ""
    first, *others = [f"in {n} of {len(n_cells)}" for n in n_groups[:N_NAMED]]
    names = list(map(str, n_groups.index))
    clauses = [f"{names[0]} has fewer than {MIN_CELLS} cells {first}"]
    clauses += [f"{name} {clause}" for name, clause in zip(names[1:], others, strict=False)]
    more = f" and {n} more" if (n := len(n_groups) - N_NAMED) > 0 else ""
    return f"Counted by {n_cells.index.name}, {', '.join(clauses)}{more}."
