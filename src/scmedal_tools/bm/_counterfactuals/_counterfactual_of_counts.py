"""What models of counts draw, in the units of log-normalised expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._baselines import Counterfactual


def counterfactual_of_counts(
    draw: Callable[[np.ndarray, str], np.ndarray], total_counts: np.ndarray, target_sum: float
) -> Counterfactual:
    """Mean logarithm of drawn counts, draws x cells x genes, normalised as measured ones are."""
    factors = target_sum / np.asarray(total_counts, dtype=float)

    def counterfactual(cells: np.ndarray, target: str) -> np.ndarray:
        # Of its own, so that results can be repeated and the user's generator is left alone.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            counts = draw(cells, target)
        return np.log1p(counts * factors[cells, None]).mean(0)

    return counterfactual
