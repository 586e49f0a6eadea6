"""Which columns of a study are confounded, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import pandas as pd
from scipy.stats.contingency import association

from scmedal_tools._data import check_obs

from ._depth import conclusions_on_depth, depth_of_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData


@dataclass(frozen=True)
class Confounding:
    """Result of :func:`confounding`.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> found = smt.bm.confounding(adata, "donor", ["condition", "cell_type"])
    >>> found.tables["donor", "condition"]
    condition  control  disease
    donor
    donor_01        67        0
    donor_02        43        0
    donor_03         0       67
    donor_04         0       63
    """

    summary: pd.DataFrame
    """A row for each pair of columns."""
    tables: dict[tuple[str, str], pd.DataFrame]
    """Number of cells of each pair, levels of the group x levels of the target."""
    depth: pd.DataFrame | None = None
    """Counts of a cell by level of each target, if a column with them was named."""

    def __str__(self) -> str:
        lines = [
            f"{row.group}, {row.target}: {row.nesting}, Cramér's V {row.cramers_v:.2f}. "
            f"{row.conclusion}"
            for row in self.summary.itertuples()
        ]
        if self.depth is not None:
            lines += conclusions_on_depth(self.depth)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def confounding(
    adata: AnnData,
    batch_key: str,
    target_keys: Sequence[str],
    *,
    depth_key: str | None = None,
) -> Confounding:
    """Find which columns are confounded, and so which claims the data cannot support.

    Cramér's V is the plain one, without correction for bias: it is 1 exactly where one column
    determines the other, and the correction takes cells for independent, which those of a donor
    are not.

    Parameters
    ----------
    adata
        Annotated data; only ``obs`` is read.
    batch_key
        Column with the batches.
    target_keys
        Columns about which claims are to be made, such as cell type or diagnosis.
    depth_key
        Column with the total counts of each cell, such as scanpy's ``"total_counts"``. Genes seem
        to differ between groups whose cells were sequenced to another depth.

    Returns
    -------
    Confounding
        ``summary`` has a row for the batch (the ``group``) with each ``target``, and for each pair
        of targets: ``cramers_v``, from 0 to 1; ``nesting``, such as ``"donor in diagnosis"``,
        ``"identical"``, ``"crossed"`` (every combination contains cells) or ``"partly crossed"``;
        ``n_groups`` and ``n_targets``, the numbers of levels; ``fewest_groups``, in how many
        groups the rarest level of the target occurs; and a ``conclusion``. ``tables`` has the
        contingency tables, by (group, target). ``print`` shows the conclusions. With ``depth_key``
        ``depth`` has, for each level of a ``target``, in all cells and ``within`` each level of
        the other targets, ``counts``, the median over batches of the mean counts of a cell, and
        their ``ratio`` to those of the deepest level; batches with fewer than 10 of these cells do
        not count, and levels that have no other are NaN. ``p_value`` is that of an analysis of
        variance over the batches, of the logarithm of their mean counts.

        The conclusions name levels of a target that differ more than 1.25-fold in all cells. They
        also name a level of another target, such as a cell type, within which they differ more
        than 1.25-fold, with a p-value below 0.05 after Bonferroni's correction for all such
        levels, if all cells do not show it: these differ less than 1.25-fold, or less by a factor
        of 1.25, or in the opposite direction.

    Raises
    ------
    ValueError
        If a column does not exist, has missing values, has a single level or is named twice, or
        the depth is not a positive number.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> print(smt.bm.confounding(adata, "donor", ["condition"]))
    donor, condition: donor in condition, Cramér's V 1.00. Every donor has one condition. The
    donor alone predicts it, so a high accuracy over cells is no evidence: hold out all cells of
    a donor together. Counted by donor, condition 'control' occurs in 2 of 4.
    """
    if isinstance(target_keys, str):
        raise ValueError(f"target_keys takes a list: write [{target_keys!r}].")
    keys = [batch_key, *target_keys]
    if not len(target_keys) or len(set(keys)) < len(keys):
        raise ValueError(
            f"target_keys={list(target_keys)!r}: name one column or more other than batch_key, "
            "each once."
        )
    check_obs(adata, batch_key)
    for key in target_keys:
        check_obs(adata, key, what="target_keys")
    columns = adata.obs[keys].astype(str)
    tables = {
        (group, target): pd.crosstab(columns[group], columns[target])
        for group, target in combinations(keys, 2)
    }
    summary = pd.DataFrame(
        {"group": group, "target": target, **_facts(group, target, table)}
        for (group, target), table in tables.items()
    )
    if depth_key is None:
        return Confounding(summary, tables)
    return Confounding(summary, tables, depth_of_levels(adata, depth_key, columns, batch_key))


def _facts(group: str, target: str, table: pd.DataFrame) -> dict:
    present = table.to_numpy() > 0
    n_groups_of = pd.Series(present.sum(axis=0), index=table.columns)
    nesting = _nesting(group, target, present)
    return {
        "cramers_v": float(association(table.to_numpy(), method="cramer")),
        "nesting": nesting,
        "n_groups": table.shape[0],
        "n_targets": table.shape[1],
        "fewest_groups": int(n_groups_of.min()),
        "conclusion": _conclusion(group, target, nesting, table, n_groups_of),
    }


def _nesting(group: str, target: str, present: np.ndarray) -> str:
    group_has_one, target_has_one = ((present.sum(axis=i) == 1).all() for i in (1, 0))
    if group_has_one and target_has_one:
        return "identical"
    if group_has_one:
        return f"{group} in {target}"
    if target_has_one:
        return f"{target} in {group}"
    return "crossed" if present.all() else "partly crossed"


def _conclusion(
    group: str, target: str, nesting: str, table: pd.DataFrame, n_groups_of: pd.Series
) -> str:
    if nesting == "identical":
        return (
            f"{group} and {target} divide the cells identically: no analysis of these data can "
            "separate their effects."
        )
    if nesting == f"{group} in {target}":
        return (
            f"Every {group} has one {target}. The {group} alone predicts it, so a high accuracy "
            f"over cells is no evidence: hold out all cells of a {group} together. Counted by "
            f"{group}, {target} {n_groups_of.idxmin()!r} occurs in {n_groups_of.min()} of "
            f"{len(table)}."
        )
    if nesting == f"{target} in {group}":
        return (
            f"Every {target} belongs to one {group}: what seems an effect of {target} may be one "
            f"of {group}, and correcting for {group} removes both."
        )
    if nesting == "crossed":
        return (
            f"Every {group} has every {target}, with {table.to_numpy().min():,} cells or more: "
            f"compare {target} within each {group}."
        )
    single = n_groups_of.index[n_groups_of == 1]
    n_empty = int((table == 0).to_numpy().sum())
    begin = f"{n_empty:,} of {table.size:,} combinations have no cells. "
    if len(single):
        names = ", ".join(map(repr, single[:3])) + (", ..." if len(single) > 3 else "")
        return begin + (
            f"In one {group} only: {target} {names} ({len(single)} in all). No analysis can "
            f"separate such an effect from that of the {group}."
        )
    return begin + (
        f"Compare {target} within a {group} that has more than one: over all cells, a score for "
        f"{group} also reflects {target}."
    )
