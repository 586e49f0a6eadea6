"""Ways to give the labels of some units to them: all, or many drawn ones."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def relabelled(
    codes: np.ndarray, n_permutations: int, seed: int
) -> tuple[Iterator[np.ndarray], int]:
    """All ways to give the labels to the units, or the true and many drawn ones; how many.

    scipy's ``permutation_test`` gives a statistic the values of each group; those here need the
    label of each unit: models are fitted again to the labels, in the same folds of units, and of
    many statistics the largest is compared too.

    Parameters
    ----------
    codes
        Labels of the units, 0, 1, ..., each of which occurs.
    n_permutations
        If there are so many ways or fewer, all are given; otherwise as many are drawn.
    seed
        Seed of the draws.
    """
    sizes = np.bincount(codes).tolist()
    n_ways = math.prod(math.comb(sum(sizes[: i + 1]), n) for i, n in enumerate(sizes))
    if n_ways <= n_permutations:
        return map(np.array, _arrangements(sizes)), n_ways
    rng = np.random.default_rng(seed)
    drawn = (rng.permutation(codes) for _ in range(n_permutations))
    return chain([codes], drawn), n_permutations + 1


def _arrangements(sizes: list[int]) -> Iterator[list[int]]:
    """All different orders of the labels 0, 1, ..., each of which occurs so many times."""
    if not any(sizes):
        yield []
    for label, n in enumerate(sizes):
        if n:
            left = [*sizes[:label], n - 1, *sizes[label + 1 :]]
            yield from ([label, *rest] for rest in _arrangements(left))
