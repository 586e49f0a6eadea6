"""Benchmarks of what the models claim."""

from ._recovery import effect_recovery

__all__ = ["effect_recovery"]
