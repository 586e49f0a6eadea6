"""Figures. Every function returns the figure and shows nothing by itself."""

from __future__ import annotations

from scmedal_tools.pl._embeddings import embeddings
from scmedal_tools.pl._scores import scores
from scmedal_tools.pl._training import training

__all__ = ["embeddings", "scores", "training"]
