"""What a counterfactual is asked for, checked before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from ._inference import Indices
    from ._swap import Swap, SwapMixin
    from ._targets import Target
    from ._unseen import UnseenBatch


class Request(NamedTuple):
    """Arguments of a counterfactual, as the model reads them."""

    adata: AnnData | MuData
    cells: np.ndarray
    """Positions of the cells."""
    targets: list[Any]
    """Names of the targets in the model."""
    genes: np.ndarray
    """Positions of the genes."""
    swap: Swap


def checked_request(
    model: SwapMixin,
    adata: AnnData | MuData | None,
    indices: Indices | None,
    transform_batch: Target | Sequence[Target],
    gene_list: Sequence[str] | None,
    swap: Swap | None,
    unseen_batch: UnseenBatch,
) -> Request:
    """Refuse what the model cannot give; defaults are filled in."""
    adata, cells = model._cells(adata, indices, unseen_batch)
    targets, swap = list(model._targets(transform_batch)), model._check_swap(swap)
    return Request(adata, cells, targets, model._gene_positions(gene_list), swap)
