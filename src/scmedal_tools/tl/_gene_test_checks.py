"""Checks of the groups, methods and training cells of a gene test."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import stats

from scmedal_tools._data import (
    BATCH,
    EXPRESSION,
    UNEQUAL_DEPTH,
    cell_depth,
    layer_of,
    part_of,
    size_factors,
    slots,
)
from scmedal_tools._how_to_install import how_to_install

from ._training_cells import training_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from mudata import MuData

    from scmedal_tools.model import SCMEDAL_RE

Method = Literal["donor", "lme", "mannwhitney"]
SIGNIFICANT = 0.05
"""Largest p-value, or false discovery rate, of what is called a difference."""
UNEQUAL = 1.5  # times the cells of the larger group's donors


def check_statsmodels() -> None:
    try:
        import statsmodels  # noqa: F401
    except ImportError as error:
        raise ImportError(f"method='lme' needs statsmodels. {how_to_install('genes')}") from error


def group_of_each(batches: pd.Series, groups: pd.Series) -> pd.Series:
    """Group of each batch that occurs."""
    pairs = pd.DataFrame({"batch": batches.to_numpy(), "group": groups.to_numpy()})
    pairs = pairs.drop_duplicates()
    mixed = pairs["batch"][pairs["batch"].duplicated()].unique()
    if len(mixed):
        raise ValueError(
            f"groups={groups.name!r} varies within {len(mixed)} of the batches "
            f"({', '.join(map(str, mixed[:5]))}{', ...' if len(mixed) > 5 else ''}): a batch has "
            "to belong to one group. Choose a column that is the same for all cells of a batch."
        )
    return pairs.set_index("batch")["group"].sort_index()


def chosen_groups(
    of_donors: pd.Series, groups: str, group: str | None, reference: str | None
) -> tuple[str, str]:
    """Group and reference, of which one or both may be left out when there are two."""
    column = of_donors.astype("category").cat.remove_unused_categories()
    levels = list(column.cat.categories)
    named = ", ".join(map(repr, levels[:20]))
    for what, name in (("group", group), ("reference", reference)):
        if name is not None and name not in levels:
            raise ValueError(f"{what}={name!r} is not a level of {groups!r}. Choose from {named}.")
    if len(levels) != 2 and (group is None or reference is None):
        raise ValueError(
            f"groups={groups!r} has {len(levels)} levels ({named}), and two are compared: name "
            "them with group=... and reference=..."
        )
    if reference is None:
        reference = next(level for level in levels if level != group)
    if group is None:
        group = next(level for level in levels if level != reference)
    if group == reference:
        raise ValueError(f"group and reference are both {group!r}: name two groups.")
    return group, reference


def check_numbers(in_group: np.ndarray, group: str, reference: str, method: Method) -> None:
    """Refuse groups of a single donor, and warn of p-values that mean little with so few."""
    numbers = int(in_group.sum()), int((~in_group).sum())
    for name, number in zip((group, reference), numbers, strict=True):
        if number < 2:
            raise ValueError(
                f"Group {name!r} has {number} donor: at least two are needed in each group, as "
                "the test compares the difference of groups with that of donors in a group."
            )
    n_donors = len(in_group)
    if method == "mannwhitney":
        smallest = 2 / math.comb(n_donors, numbers[0])
        if smallest >= SIGNIFICANT:
            warnings.warn(
                f"With {numbers[0]} against {numbers[1]} donors no p-value of Mann-Whitney's test "
                f"can be below {smallest:.2g}: use method='donor'.",
                UserWarning,
                stacklevel=3,
            )
    if method == "lme":
        share = 2 * stats.t.sf(stats.norm.isf(SIGNIFICANT / 2), n_donors - 2)
        warnings.warn(
            "The p-values of method='lme' are not calibrated. They take the variance between "
            f"donors as known, so that with {n_donors} donors and no difference up to {share:.1%} "
            f"are below {SIGNIFICANT}; and genes whose donors differ little get p-values that are "
            "too large, as all donors have the same cells. Use method='donor'.",
            UserWarning,
            stacklevel=3,
        )


def check_training_cells(
    models: Sequence[SCMEDAL_RE],
    projected: AnnData | MuData,
    donors: list,
    in_group: np.ndarray,
    label: str | None,
) -> None:
    """Warn where the small group has the large donors, which are shrunk less and vary more.

    Effects common to all cells are estimated from all training cells of a donor, those on a cell
    type from the training cells in similar states.
    """
    small = in_group if in_group.sum() < (~in_group).sum() else ~in_group
    if small.sum() == (~small).sum():
        return
    kinds = {"training cells": None}
    if label is not None:
        kinds[f"training cells that are like those of {label!r}"] = projected
    found = []
    for kind, like in kinds.items():
        counts = np.mean([training_cells(m, like).reindex(donors) for m in models], axis=0)
        of_small, of_large = np.median(counts[small]), np.median(counts[~small])
        if of_small > UNEQUAL * of_large:
            found.append(f"{of_small:,.0f} {kind} (median), the others {of_large:,.0f}")
    if found:
        of_type = "" if label is None else ", in all and of the type"
        warnings.warn(
            f"The {small.sum()} donors of the smaller group have {'; and '.join(found)}. Donors "
            "with many training cells are shrunk less and vary more, so that p-values are too "
            "small here, whatever cells are in adata: train again on cells drawn so that donors "
            f"have equal numbers{of_type}.",
            UserWarning,
            stacklevel=3,
        )


def check_depth(
    adata: AnnData | MuData,
    setup: dict,
    of_donors: pd.Series,
    group: str,
    reference: str,
    depth_key: str | None,
    advice: str = "use tl.group_effects, which tests sums of counts",
) -> None:
    """Warn where the donors of one group have cells with more counts than those of the other.

    The counts of a cell are those that ``depth_key`` names in ``obs``, or of the genes there.
    """
    part = part_of(adata, setup, EXPRESSION)
    if depth_key is not None:
        what, of_cells = depth_key, size_factors(part, depth_key, what="depth_key")
    else:
        what = "counts" if slots.COUNTS_LAYER in part.layers else "number of expressed genes"
        of_cells = cell_depth(part, layer_of(setup))
    donor = part_of(adata, setup, BATCH).obs[setup["batch_key"]].to_numpy()
    depth = pd.Series(of_cells).groupby(donor).mean()
    of_groups = depth.groupby(of_donors).median()
    ratio = of_groups[group] / of_groups[reference]
    if not 1 / UNEQUAL_DEPTH <= ratio <= UNEQUAL_DEPTH:
        warnings.warn(
            f"Cells of {group!r} have {ratio:.2f} times the {what} of those of {reference!r} "
            "(medians over donors). Log-normalised values differ between depths, whatever the "
            f"gene does, and p-values are too small: {advice}.",
            UserWarning,
            stacklevel=3,
        )
