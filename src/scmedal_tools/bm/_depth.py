"""Whether the cells of some groups were sequenced deeper than those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scmedal_tools._data import UNEQUAL_DEPTH, check_obs

if TYPE_CHECKING:
    from anndata import AnnData

ALL = "all cells"


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
    """A sentence on each column whose levels differ in depth, over all cells."""
    lines = []
    for target, table in depth[depth["within"] == ALL].groupby("target", sort=False):
        least, most = (table.loc[i] for i in (table["ratio"].idxmin(), table["ratio"].idxmax()))
        if least["ratio"] * UNEQUAL_DEPTH < 1:
            lines.append(
                f"{target}: cells of {least['level']!r} have {least['counts']:,.0f} counts, those "
                f"of {most['level']!r} {most['counts']:,.0f}. Log-normalised values differ for "
                "that alone: test sums of counts, with tl.group_effects."
            )
    return lines
