"""Tools: what comes after training."""

from ._counterfactual_means import counterfactual_means
from ._embed import embed
from ._umap import umap

__all__ = ["counterfactual_means", "embed", "umap"]
