"""Preprocessing: from raw counts to log-normalised expression, the input of the models."""

from __future__ import annotations

from scmedal_tools.pp._preprocess import preprocess

__all__ = ["preprocess"]
