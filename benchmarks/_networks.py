"""Models with a network that another one has learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import scmedal_tools as smt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData


def weights_of(model: smt.model.SCMEDAL_RE) -> dict:
    """Weights of a model's network, without the effects on single genes."""
    weights = model.module.state_dict()
    return {k: v for k, v in weights.items() if not k.startswith("gene_effects.")}


def with_network(
    weights: dict, adata: AnnData, parts: Sequence[np.ndarray], batch_key: str, **columns: str
) -> smt.model.SCMEDAL_RE:
    """RE with a trained network, finished; the network does not see states that are given."""
    smt.model.SCMEDAL_RE.setup_anndata(adata, batch_key=batch_key, **columns)
    model = smt.model.SCMEDAL_RE(adata)
    model.module.load_state_dict(weights, strict=False)
    model.train_indices, model.validation_indices, model.test_indices = parts
    model.is_trained_ = True
    model.module.eval()
    model.finish()
    return model
