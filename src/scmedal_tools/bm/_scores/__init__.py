"""Scores of embeddings: batches mixed, cell types apart."""

from ._scores import scores

__all__ = [
    "scores",
]
