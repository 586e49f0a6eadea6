"""Preprocessing: from raw counts to what the models take."""

from __future__ import annotations

from scmedal_tools.pp._preprocess import preprocess

__all__ = ["preprocess"]
