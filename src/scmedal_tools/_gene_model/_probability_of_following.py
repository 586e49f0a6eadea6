"""Which genes follow the effects that the network expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools._docs import with_shared_parts

from ._fit import posterior_over_genes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._fit import MixedModel
    from ._group_sums import GroupSums

# Of the network's effects, what genes that follow it have as the mean of theirs.
NETWORK_SHARE = 0.5


@with_shared_parts
def probability_of_following(
    alone: Sequence[MixedModel],
    following: Sequence[MixedModel],
    levels: np.ndarray,
    held_back: GroupSums,
    guess: GroupSums,
) -> np.ndarray:
    """Probability of each gene that its effects vary around the network's guess, not around 0.

    The network has seen the training cells, and fits their noise too. So the guess is
    used where it predicts the means of groups of validation cells better. How many genes follow it
    is estimated from all of them.

    Parameters
    ----------
    alone, following
        Models of all factors, fitted without the guess, and to what the guess leaves.
    %(levels)s
    held_back, guess
        What there is to be explained in validation cells, and the network's effects on them, for
        each combination of levels.

    Returns
    -------
    Shape ``(n_genes,)``; 0 without validation cells.
    """
    sizes = held_back.sizes[:, :, None]
    if not sizes.any():
        return np.zeros(held_back.sums.shape[2])
    expected = [
        models[0].fixed + sum(m.loc[level] for m, level in zip(models, levels.T, strict=True))
        for models in (alone, following)
    ]
    expected[1] = expected[1] + NETWORK_SHARE * guess.means
    known = sum(np.square(m.sd_of_sum[level]) for m, level in zip(alone, levels.T, strict=True))
    variance = known + np.square(alone[0].scale) / np.maximum(sizes, 1)
    log_likelihood = [
        np.where(sizes > 0, -0.5 * np.square(held_back.means - mean) / variance, 0.0).sum((0, 1))
        for mean in expected
    ]
    return posterior_over_genes(np.stack(log_likelihood, axis=1))[:, 1]
