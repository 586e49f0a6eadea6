"""Posterior draws of the random effects that can be gone through again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from scmedal_tools._data import check_argument, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from scmedal_tools.module import EffectsDraw

MAX_BYTES = 2**31


class Draws:
    """Seeded draws, made one by one and the same in every iteration.

    Parameters
    ----------
    draw
        Gives a draw from a generator.
    seed
        Seed of the generator.
    n_samples
        Number of draws.
    """

    def __init__(self, draw: Callable[[torch.Generator], EffectsDraw], seed: int, n_samples: int):
        check_argument("n_samples", n_samples, whole())
        self._draw, self._n_samples = draw, n_samples
        self._held: list[EffectsDraw] = []
        self._state = torch.Generator().manual_seed(seed).get_state()

    def hold(self) -> Self:
        """Hold draws, but those beyond ``MAX_BYTES``, which are made again in every iteration.

        For minibatches that need all draws, each in its turn: a draw of the effects on genes takes
        longer than what a minibatch makes of it.
        """
        generator, n_bytes = self._generator(), 0
        while len(self._held) < self._n_samples and n_bytes < MAX_BYTES:
            self._held.append(self._draw(generator))
            n_bytes += _n_bytes(self._held[-1])
        self._state = generator.get_state()
        return self

    def __iter__(self) -> Iterator[EffectsDraw]:
        yield from self._held
        generator = self._generator()
        for _ in range(self._n_samples - len(self._held)):
            yield self._draw(generator)

    def _generator(self) -> torch.Generator:
        return torch.Generator().set_state(self._state)


def _n_bytes(draw: EffectsDraw) -> int:
    tensors = []
    for effects in draw.values():
        if isinstance(effects, torch.Tensor):
            tensors.append(effects)
        else:
            tensors += [effects.follows, effects.fixed, *effects.effects]
    return sum(tensor.nbytes for tensor in tensors)
