"""Whether the cells of some groups were sequenced deeper than those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scmedal_tools._data import UNEQUAL_DEPTH, check_obs

if TYPE_CHECKING:
    from anndata import AnnData

ALL = "all cells"
SHOWN = 3  # differences that are named


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
            of_batches = depth[cells.index].groupby(keys, observed=True).mean()
            counts = of_batches.groupby(level=0).median()
            tables.append(
                pd.DataFrame(
                    {
                        "target": target,
                        "within": within,
                        "level": counts.index,
                        "counts": counts.to_numpy(),
                        "ratio": (counts / counts.max()).to_numpy(),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def conclusions_on_depth(depth: pd.DataFrame) -> list[str]:
    """A sentence on each column whose levels differ in depth, in all cells or in part of them."""
    lines = []
    for target, of_target in depth.groupby("target", sort=False):
        ratios = of_target.groupby("within", sort=False)["ratio"].min()
        # In a part of the cells what is not seen in all of them, or is larger there.
        seen = ratios[ALL] if ratios[ALL] * UNEQUAL_DEPTH < 1 else 1.0
        of_parts = ratios[ratios * UNEQUAL_DEPTH < seen].drop(ALL, errors="ignore")
        names = list(of_parts.sort_values(kind="stable").index)
        if seen < 1:
            names.insert(0, ALL)
        if names:
            shown = [_difference(name, of_target) for name in names[:SHOWN]]
            more = [f"and in {len(names) - SHOWN:,} more"] if len(names) > SHOWN else []
            lines.append(
                f"{target}: {'; '.join(shown + more)}. Log-normalised values differ for that "
                "alone: test sums of counts, with tl.group_effects."
            )
    return lines


def _difference(within: str, of_target: pd.DataFrame) -> str:
    table = of_target[of_target["within"] == within].set_index("level")["counts"]
    where = "" if within == ALL else f"in {within} "
    return (
        f"{where}cells of {table.idxmin()!r} have {table.min():,.0f} counts, those of "
        f"{table.idxmax()!r} {table.max():,.0f}"
    )
