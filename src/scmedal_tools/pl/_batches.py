"""What figures of batch effects share: the effects, colours, and the tree of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from scmedal_tools._data import BATCH, FACTORS, part_of
from scmedal_tools.tl import batch_similarity, check_has_draws

from ._common import chosen_genes
from ._palette import palette

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from scmedal_tools.model import SCMEDAL_RE

WITHOUT_CELLS = "lightgrey"


def effects_on(
    model: SCMEDAL_RE, genes: str | Sequence[str] | None, n_genes: int, **kwargs: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Effects and their standard deviations, batches x genes, by default the most affected."""
    check_has_draws(model, 1)
    effects = model.get_batch_effects(**kwargs)
    rms = np.square(effects["effect"]).groupby(level="gene", sort=False).mean()
    genes = chosen_genes(genes, n_genes, rms)
    batches = effects.index.unique(0)
    # Not by .loc, which takes batches that are named True and False for a mask.
    effect, sd = (
        effects[name].unstack("gene").reindex(batches)[genes] for name in ("effect", "sd")
    )
    return effect, sd


def batch_colors(model: SCMEDAL_RE, factor: str | None) -> dict[str, str]:
    """Colour of each batch in ``uns``; light grey for those that have no cells in the data."""
    setup, column = model.registry["setup_args"], factor or next(iter(model.factors))
    argument = FACTORS if column in (setup.get("random_effect_keys") or ()) else BATCH
    adata = part_of(model.adata, setup, argument)
    colors = {str(name): color for name, color in palette(adata, column).items()}
    return {str(name): colors.get(str(name), WITHOUT_CELLS) for name in model.factors[column]}


def batch_tree(model: SCMEDAL_RE, **kwargs: Any) -> tuple[NDArray[np.floating], list[str]]:
    """Average linkage of the batches by their posterior distances, and their order in it."""
    distances = batch_similarity(model, progress=False, **kwargs)
    condensed = squareform(distances.to_numpy())
    tree = hierarchy.linkage(condensed, "average", optimal_ordering=True)
    return tree, list(distances.index[hierarchy.leaves_list(tree)])


def branches(tree: NDArray[np.floating]) -> Iterator[tuple[NDArray, NDArray]]:
    """Lines of the tree: places among the leaves, which are at 0, 1, ..., and distances."""
    drawn = hierarchy.dendrogram(tree, no_plot=True)
    for position, distance in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        # scipy has its leaves at 5, 15, 25, ...
        yield np.array(position) / 10 - 0.5, np.array(distance)


def draw_leaves(
    ax: Axes, x: NDArray, y: NDArray, order: Sequence[str], colors: dict[str, str]
) -> None:
    """Draw the leaves of a tree as points in the colours of the batches."""
    of_leaves = [colors[str(name)] for name in order]
    ax.scatter(x, y, c=of_leaves, s=30, ec="0.3", lw=0.5, clip_on=False, zorder=3)
