"""Tools: what comes after training."""

from ._embed import embed
from ._umap import umap

__all__ = ["embed", "umap"]
