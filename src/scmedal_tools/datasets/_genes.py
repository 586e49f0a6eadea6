"""Genes of simulated cells: their abundances, programmes and effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Genes:
    """What determines the counts, apart from a cell's depth and state."""

    log_base: np.ndarray  # log abundance without donor effects, types x genes
    loadings: np.ndarray  # within-type programmes, types x programmes x genes
    effects: np.ndarray  # log-fold effects before renormalisation, donors x types x genes
    has_effect: np.ndarray  # whether a gene has any effect, genes
    theta: np.ndarray  # inverse dispersion of each level
    level: np.ndarray  # dispersion level of each gene

    def log_base_rates(self, cell_type: int, state: np.ndarray) -> np.ndarray:
        """Log proportions of the genes without donor effects, cells x genes."""
        logits = self.log_base[cell_type] + state @ self.loadings[cell_type]
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def log_corrections(self, cell_type: int, log_base_rates: np.ndarray) -> np.ndarray:
        """Log factors that keep the total proportion of the genes with effect, cells x donors.

        With them proportions sum to one in every donor, and the other genes keep theirs exactly.
        """
        base = np.exp(log_base_rates[:, self.has_effect])
        changed = base @ np.exp(self.effects[:, cell_type, self.has_effect]).T
        return np.log(base.sum(axis=1, keepdims=True)) - np.log(changed)

    def log_rates(self, cell_type: int, donor: int, state: np.ndarray) -> np.ndarray:
        """Log proportions of the genes for cells in these states in a donor, cells x genes."""
        rates = self.log_base_rates(cell_type, state)
        correction = self.log_corrections(cell_type, rates)[:, [donor]]
        return rates + np.where(self.has_effect, self.effects[donor, cell_type] + correction, 0.0)
