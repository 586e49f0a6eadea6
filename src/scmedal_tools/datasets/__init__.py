"""Data sets with a known truth."""

from __future__ import annotations

from scmedal_tools.datasets._simulated import simulated, true_shift

__all__ = ["simulated", "true_shift"]
