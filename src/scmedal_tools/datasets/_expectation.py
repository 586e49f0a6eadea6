"""Expected log-normalised expression of simulated cells, in each donor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ._genes import Genes

TARGET_SUM = 1e4


def expected_log1p(
    mean: np.ndarray, theta: np.ndarray | float, scale: np.ndarray | float
) -> np.ndarray:
    """Expectation of ``log1p(scale * y)`` for negative-binomial ``y``; arguments broadcast.

    Uses ``log(1 + x) = integral of exp(-t) / t * (1 - exp(-x * t)) dt``, whose expectation needs
    only the generating function of ``y``; the trapezoidal rule in ``log t`` is then exact to 1e-9.
    """
    step = 0.25
    total = np.zeros(())
    for t in np.exp(np.arange(-30, 4, step)):
        inner = np.log1p(mean * -np.expm1(-scale * t) / theta)
        total = total + np.exp(-t) * -np.expm1(-theta * inner)
    return step * total


class ExpectedExpression:
    """Mean expected expression of a group of cells in every donor, interpolated in a table."""

    log_rate = np.linspace(np.log(1e-7), 0.0, 256)

    def __init__(self, genes: Genes, depths: np.ndarray) -> None:
        self.genes = genes
        self.log_depth = np.linspace(np.log(depths.min()), np.log(depths.max()), 24)
        depth = np.exp(self.log_depth)[:, None, None]
        self.table = expected_log1p(
            depth * np.exp(self.log_rate), genes.theta[:, None], TARGET_SUM / depth
        )

    def __call__(self, cell_type: int, depth: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Mean over cells of their expected expression in each donor, donors x genes."""
        genes, changed = self.genes, self.genes.has_effect
        base = genes.log_base_rates(cell_type, state)
        correction = genes.log_corrections(cell_type, base)
        effects = genes.effects[:, cell_type, changed]
        result = np.zeros((len(effects), len(changed)))
        for i, table in enumerate(self._tables(depth)):
            result[:, ~changed] += self._look_up(table, base[i, ~changed], genes.level[~changed])
            rates = base[i, changed] + effects + correction[i][:, None]
            result[:, changed] += self._look_up(table, rates, genes.level[changed])
        return (result / len(depth)).astype(np.float32)

    def _tables(self, depth: np.ndarray) -> np.ndarray:
        """Tables (levels x rates) at the depth of each cell."""
        step = self.log_depth[1] - self.log_depth[0]
        position = (np.log(depth) - self.log_depth[0]) / step
        left = np.clip(position.astype(int), 0, len(self.log_depth) - 2)
        weight = (position - left)[:, None, None]
        return (1 - weight) * self.table[left] + weight * self.table[left + 1]

    def _look_up(self, table: np.ndarray, rates: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Table values at log rates (... x genes), genes having a dispersion level each."""
        step = self.log_rate[1] - self.log_rate[0]
        position = np.clip((rates - self.log_rate[0]) / step, 0, len(self.log_rate) - 1.001)
        left = position.astype(np.int32)
        row = left + level * len(self.log_rate)
        flat = table.ravel()
        below = flat[row]
        return below + (position - left) * (flat[row + 1] - below)
