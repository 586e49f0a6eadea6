"""How much of the variance of genes is due to the batches, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scmedal_tools._docs import with_shared_parts

from ._common import axes_of, chosen_genes, figure_of, plain, save_figure, widest
from ._palette import BLUE, PURPLE, VERMILLION, YELLOW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

ROW_INCHES = 0.2
SHARE = "_share"
# At most three factors: the batch and two further ones.
FACTOR_COLORS = [VERMILLION, YELLOW, PURPLE]
OTHER_COLORS = {"content": BLUE, "residual": "0.8"}


@with_shared_parts
def variance_components(
    components: pd.DataFrame,
    genes: str | Sequence[str] | None = None,
    *,
    n_genes: int = 20,
    ax: Axes | None = None,
    save: str | Path | None = None,
) -> Axes:
    """Draw the shares of batch, content and residual in the variance of genes.

    A bar for each gene, its first part the batch, so that these shares start at one line.

    Parameters
    ----------
    components
        Result of :func:`scmedal_tools.tl.variance_components`.
    genes
        Genes to draw, from top to bottom; by default those with the largest share of the batch,
        largest first. A gene that does not vary has no bar.
    n_genes
        Number of genes if `genes` are not given.
    %(ax)s
    %(save)s

    %(axes)s

    Raises
    ------
    KeyError
        If one of `genes` is not in the table.
    ValueError
        If there are no genes to draw, or the table is not one of variance components.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> components = smt.tl.variance_components(model, n_samples=10, progress=False)
    >>> ax = smt.pl.variance_components(components, n_genes=10)
    >>> [container.get_label() for container in ax.containers]
    ['batch', 'content', 'residual']
    """
    shares = components.filter(regex=f"{SHARE}$").rename(columns=lambda x: x.removesuffix(SHARE))
    if missing := {"content", "batch", "residual"} - set(shares.columns):
        raise ValueError(
            f"The table has no shares of {sorted(missing)}: pass the result of "
            "tl.variance_components."
        )
    shares = shares.loc[chosen_genes(genes, n_genes, shares["batch"])]
    factors = [name for name in shares.columns if name not in OTHER_COLORS]
    colors = dict(zip(factors, FACTOR_COLORS, strict=False)) | OTHER_COLORS

    ax = axes_of(ax, (4.3 + widest(shares.index, 8), 0.9 + ROW_INCHES * len(shares)))
    rows, start = np.arange(len(shares)), np.zeros(len(shares))
    style: dict[str, Any] = {"height": 0.8, "edgecolor": "white", "linewidth": 0.5}
    for name, color in colors.items():
        ax.barh(rows, shares[name], left=start, color=color, label=plain(name), **style)
        start = start + shares[name]
    ax.set_yticks(rows, map(plain, shares.index), fontsize=8)
    ax.set(xlim=(0, 1), ylim=(len(shares) - 0.4, -0.6))
    ax.set_xlabel("share of the variance", fontsize=8)
    ax.tick_params("x", labelsize=7)
    ax.tick_params("y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=len(colors), frameon=False, fontsize=8
    )
    save_figure(figure_of(ax), save)
    return ax
