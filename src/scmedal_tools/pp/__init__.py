"""Preprocessing: from raw counts to log-normalised expression, the input of the models."""

from __future__ import annotations

from ._preprocess import preprocess

# For other folders of the package.
from ._preprocess import variable_genes as variable_genes

__all__ = ["preprocess"]


def __dir__() -> list[str]:
    return list(__all__)
