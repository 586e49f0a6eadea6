"""Donors as points in the plane, with what is not known of them."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from scmedal_tools._data import check_cells
from scmedal_tools._docs import with_shared_parts

from ._common import axes_of, figure_of, plain, save_figure
from ._name_points import name_points
from ._palette import categories_of, default_colors

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

SIZE = (4.6, 4.0)


@with_shared_parts
def donor_embedding(
    donors: AnnData,
    groups: pd.Series | None = None,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw donors by the two directions in which the effects of donors differ most.

    Bars are one posterior standard deviation to each side, of dimensions taken for independent.
    Donors that were added to a trained model are diamonds; the axes are those of the others.

    Parameters
    ----------
    donors
        Result of :func:`scmedal_tools.tl.donor_embedding`.
    groups
        Group of each donor, by name, for the colours.
    %(ax)s
    %(save)s

    %(axes)s

    Raises
    ------
    ValueError
        If there are fewer than three donors of the training, or a donor has no group.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> donors = smt.tl.donor_embedding(model)
    >>> groups = adata.obs.groupby("donor", observed=True)["condition"].first()
    >>> ax = smt.pl.donor_embedding(donors, groups)
    >>> sorted(text.get_text() for text in ax.texts)
    ['donor_01', 'donor_02', 'donor_03', 'donor_04']
    """
    check_cells(donors)
    is_new = donors.obs["is_new"].to_numpy()
    if (~is_new).sum() < 3 or donors.n_vars < 2:
        raise ValueError(
            "Two directions need three donors and two effects or more, and there are "
            f"{(~is_new).sum()} donors that are not new, and {donors.n_vars:,} effects."
        )
    of_donors = pd.Series("", donors.obs_names)
    if groups is not None:
        of_donors = groups.set_axis(groups.index.map(str)).reindex(donors.obs_names)
        if of_donors.isna().any():
            raise ValueError(f"groups has no group for {list(of_donors[of_donors.isna()].index)}.")
    axes = PCA(2, svd_solver="full").fit(donors.X[~is_new])
    points = axes.transform(donors.X)
    sd = np.sqrt((1 / donors.layers["precision"]) @ np.square(axes.components_).T)
    ax = axes_of(ax, SIZE)
    of_donors = categories_of(of_donors)
    names = of_donors.categories
    for name, colour in zip(names, cycle(default_colors(len(names))), strict=False):
        for new, marker in ((False, "o"), (True, "D")):
            rows = (of_donors == name) & (is_new == new)
            if rows.any():
                label = f"{plain(name)}{', new' if new else ''}".lstrip(", ")
                ax.errorbar(
                    points[rows, 0], points[rows, 1], xerr=sd[rows, 0], yerr=sd[rows, 1],
                    fmt=marker, ms=5, color=colour, elinewidth=0.7, label=label or None,
                )  # fmt: skip
    for axis, share, number in zip(
        (ax.xaxis, ax.yaxis), axes.explained_variance_ratio_, (1, 2), strict=True
    ):
        axis.set_label_text(f"direction {number} ({share:.0%} of the variance)", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
    if groups is not None or is_new.any():
        ax.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    (x, y), (x_sd, y_sd) = points.T, sd.T
    name_points(
        ax, points, list(map(plain, donors.obs_names)), textsize=7, draw_all=True,
        x_lines=[*np.transpose([x - x_sd, x + x_sd]), *np.transpose([x, x])],
        y_lines=[*np.transpose([y, y]), *np.transpose([y - y_sd, y + y_sd])],
    )  # fmt: skip
    save_figure(figure_of(ax), save)
    return ax
