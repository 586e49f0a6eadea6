"""Whether the cells of some groups were sequenced deeper than those of others."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from scmedal_tools._data import UNEQUAL_DEPTH, check_obs

if TYPE_CHECKING:
    from anndata import AnnData

ALL = "all cells"
SHOWN = 3  # differences that are named
# The mean counts of fewer are noise, which is largest in rare types.
MIN_CELLS = 10
MAX_P_VALUE = 0.05  # of all parts of the cells together


def depth_of_levels(
    adata: AnnData, depth_key: str, columns: pd.DataFrame, batch_key: str
) -> pd.DataFrame:
    """Counts of a cell by level of each column, in all cells and in each level of the others."""
    check_obs(adata, depth_key, what="depth_key", min_levels=1)
    depth = pd.to_numeric(adata.obs[depth_key], errors="coerce")
    if not (depth > 0).all():
        raise ValueError(
            f"depth_key={depth_key!r} has to be the total counts of each cell, above 0. Run:\n"
            f"adata.obs[{depth_key!r}] = adata.layers['counts'].sum(axis=1)"
        )
    # By position: cells may share a name.
    columns = columns.reset_index(drop=True)
    depth = depth.reset_index(drop=True)
    targets = [name for name in columns if name != batch_key]
    tables = []
    for target in targets:
        parts = {ALL: columns}
        for other in targets:
            if other != target:
                of_levels = columns.groupby(other, observed=True)
                parts |= {f"{other} {level}": cells for level, cells in of_levels}
        for within, cells in parts.items():
            keys = [cells[target], cells[batch_key]]
            cells_of = depth[cells.index].groupby(keys, observed=True)
            of_batches = cells_of.mean().where(cells_of.size() >= MIN_CELLS)
            counts = of_batches.groupby(level=0).median()
            tables.append(
                pd.DataFrame(
                    {
                        "target": target,
                        "within": within,
                        "level": counts.index,
                        "counts": counts.to_numpy(),
                        "ratio": (counts / counts.max()).to_numpy(),
                        "p_value": _p_value(of_batches.dropna()),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def _p_value(of_batches: pd.Series) -> float:
    """Of the hypothesis of one depth in all levels; NaN where too few batches have them."""
    levels = [logs.to_numpy() for _, logs in np.log(of_batches).groupby(level=0)]
    if len(levels) < 2 or len(of_batches) <= len(levels):
        return np.nan
    with warnings.catch_warnings():  # where all batches of a level have the same depth
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(stats.f_oneway(*levels).pvalue)


def conclusions_on_depth(depth: pd.DataFrame) -> list[str]:
    """A sentence on each column whose levels differ in depth, in all cells or in part of them."""
    lines = []
    for target, of_target in depth.groupby("target", sort=False):
        parts = {
            name: table.set_index("level")
            for name, table in of_target.groupby("within", sort=False)
        }
        of_all = parts.pop(ALL)
        n_tested = sum(table["p_value"].notna().all() for table in parts.values())
        found = {
            name: table
            for name, table in parts.items()
            if (table["p_value"] * n_tested < MAX_P_VALUE).all() and _is_not_said(table, of_all)
        }
        names = sorted(found, key=lambda name: found[name]["ratio"].min())
        said = [f"in {name} {_difference(found[name])}" for name in names]
        if _differ(of_all):
            said.insert(0, _difference(of_all))
        if said:
            more = [f"and in {len(said) - SHOWN:,} more"] if len(said) > SHOWN else []
            lines.append(
                f"{target}: {'; '.join(said[:SHOWN] + more)}. Log-normalised values differ for "
                "that alone: test sums of counts, with tl.group_effects."
            )
    return lines


def _differ(table: pd.DataFrame) -> bool:
    return bool(table["ratio"].min() * UNEQUAL_DEPTH < 1)


def _is_not_said(table: pd.DataFrame, of_all: pd.DataFrame) -> bool:
    """Whether levels differ in a part of the cells as is not said of all cells."""
    if not _differ(table) or not _differ(of_all):
        return _differ(table)
    counts = table["counts"]
    is_larger = table["ratio"].min() * UNEQUAL_DEPTH < of_all["ratio"].min()
    is_reversed = counts.get(of_all["counts"].idxmin(), np.nan) > UNEQUAL_DEPTH * counts.min()
    return bool(is_larger or is_reversed)


def _difference(table: pd.DataFrame) -> str:
    counts = table["counts"]
    return (
        f"cells of {counts.idxmin()!r} have {counts.min():,.0f} counts, those of "
        f"{counts.idxmax()!r} {counts.max():,.0f}"
    )
