"""Simulated data with a known truth, and readers of the paper's data sets."""

from __future__ import annotations

from ._aml import aml
from ._asd import asd
from ._healthy_heart import healthy_heart
from ._simulated import simulated, true_shift

__all__ = ["aml", "asd", "healthy_heart", "simulated", "true_shift"]


def __dir__() -> list[str]:
    return list(__all__)
