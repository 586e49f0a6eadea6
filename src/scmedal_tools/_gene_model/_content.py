"""What the content of a cell still knows of its batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools._docs import with_shared_parts

from ._fit import backfitting_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._group_sums import GroupSums

# A group with as many cells weighs half as much as a large one.
HALF_WEIGHT = 10
ROUNDS = 50


@with_shared_parts
def batch_share_of_content(
    expression: GroupSums,
    levels: np.ndarray,
    n_levels: Sequence[int],
    share: float,
) -> tuple[np.ndarray, list[np.ndarray]]:
    r"""Part of the content's expression that belongs to the batch, not to the cell.

    No content is wholly free of the batch, so that what the decoder makes of it without effects,
    :math:`f_0(u)`, differs between batches. In a state :math:`s` the mean of batch :math:`k` is
    :math:`a_s + g_k + d_{ks}`. What all states share, :math:`g_k`, is an effect of the batch
    that the content carries. The rest may be that too, or a difference of composition within the
    state: ``share`` of it counts as an effect of the batch, as does all of :math:`g_k`.

    Parameters
    ----------
    expression
        Sums of :math:`f_0(u)` over the combinations of levels and the states.
    %(levels)s
    n_levels
        Number of levels of each factor.
    share
        Between 0 and 1.

    Returns
    -------
    Means of the states :math:`a_s`, states x genes; and for each factor
    :math:`g_k + \text{share} \cdot d_{ks}`, levels x states x genes. A group without cells has
    :math:`g_k` alone.
    """
    parts: dict[int, np.ndarray] = {}
    of_states = np.zeros(expression.sums.shape[1:])
    for factor in backfitting_order(n_levels):
        others = sum(part[levels[:, f]] for f, part in parts.items() if f != factor)
        left = expression.without(others).over(levels[:, factor], n_levels[factor])
        of_states, shared, rest = _two_way(left)
        parts[factor] = shared[:, None] + share * rest
    return of_states, [parts[factor] for factor in range(len(n_levels))]


def share_of_new(expression: GroupSums, of_states: np.ndarray, share: float) -> np.ndarray:
    """The same for further batches, given the means of the states."""
    weights = _weights(expression.sizes)
    rest = np.where(expression.sizes[:, :, None] > 0, expression.means - of_states, 0.0)
    shared = _sum(weights, rest, axis=1) / _total(weights, axis=1)
    return shared[:, None] + share * _occupied(expression.sizes, rest - shared[:, None])


def _two_way(expression: GroupSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of the states, and what batches add to all of them and to each."""
    means, weights = expression.means, _weights(expression.sizes)
    # All that the rounds need of the means.
    over_batches, over_states = _sum(weights, means, axis=0), _sum(weights, means, axis=1)
    of_state, of_batch = _total(weights, axis=0), _total(weights, axis=1)
    shared = np.zeros_like(over_states)
    for _ in range(ROUNDS):
        of_states = (over_batches - weights.T @ shared) / of_state
        shared = (over_states - weights @ of_states) / of_batch
        shared -= shared.mean(0)
    rest = _occupied(expression.sizes, means - of_states - shared[:, None])
    return of_states, shared, rest


def _weights(sizes: np.ndarray) -> np.ndarray:
    return sizes / (sizes + HALF_WEIGHT)


def _sum(weights: np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    return (weights[:, :, None] * values).sum(axis)


def _total(weights: np.ndarray, axis: int) -> np.ndarray:
    return np.maximum(weights.sum(axis), 1e-9)[:, None]


def _occupied(sizes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of groups with cells, and 0 of those without."""
    return np.where(sizes[:, :, None] > 0, values, 0.0)
