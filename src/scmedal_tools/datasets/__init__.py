"""Simulated data with a known truth, and readers of the paper's data sets."""

from __future__ import annotations

from scmedal_tools.datasets._aml import aml
from scmedal_tools.datasets._asd import asd
from scmedal_tools.datasets._healthy_heart import healthy_heart
from scmedal_tools.datasets._simulated import simulated, true_shift

__all__ = ["aml", "asd", "healthy_heart", "simulated", "true_shift"]
