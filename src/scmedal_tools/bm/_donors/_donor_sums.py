"""What all features of donors are made of: sums over the cells of every donor and cell type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scmedal_tools._data import dense
from scmedal_tools._gene_model import GroupSums

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class DonorSums:
    """Numbers of cells, sums and sums of squares of log-normalised expression.

    A donor's values are found from its own cells alone, so that those of some donors can be used
    without the others.
    """

    names: list[str]
    """Donors."""
    labels: list[str]
    """Cell types."""
    sizes: np.ndarray
    """Number of cells, donors x types."""
    sums: np.ndarray
    """Donors x types x genes."""
    squares: np.ndarray
    """Donors x types x genes."""
    depth: np.ndarray | None
    """Mean logarithm of a cell's total counts, by donor; ``None`` if these are not known."""

    @classmethod
    def of(
        cls, expression: Any, donors: pd.Series, labels: pd.Series, totals: np.ndarray | None
    ) -> DonorSums:
        """Sum over cells x genes."""
        donor, label = (pd.Categorical(column.astype(str)) for column in (donors, labels))
        shape = len(donor.categories), len(label.categories)
        group = donor.codes.astype(int) * shape[1] + label.codes
        n_cells = len(group)
        indicator = sparse.csr_array(
            (np.ones(n_cells), (group, np.arange(n_cells))), shape=(shape[0] * shape[1], n_cells)
        )
        sums, squares = (
            dense(indicator @ values).reshape(*shape, -1)
            for values in (expression, _squared(expression))
        )
        depth = None
        if totals is not None:
            depth = pd.Series(np.log(totals)).groupby(donor.codes).mean().to_numpy()
        sizes = np.bincount(group, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
        return cls(list(donor.categories), list(label.categories), sizes, sums, squares, depth)

    def variance(self, donors: Sequence[int]) -> np.ndarray:
        """Variance of every gene over all cells of some donors, with equal weights."""
        of_donors = self.sizes[donors].sum(1)[:, None]
        mean = (self.sums[donors].sum(1) / of_donors).mean(0)
        return (self.squares[donors].sum(1) / of_donors).mean(0) - np.square(mean)

    def groups(
        self, donors: Sequence[int], labels: np.ndarray, genes: np.ndarray | slice
    ) -> GroupSums:
        """Sums of some donors, types and genes, as the mixed models take them."""
        chosen = np.ix_(donors, labels)
        sums = self.sums[chosen][:, :, genes]
        groups = GroupSums(*sums.shape)
        groups.sizes, groups.sums = self.sizes[chosen], sums
        groups.squares = self.squares[chosen][:, :, genes].sum(0)
        return groups


def _squared(values: Any) -> Any:
    if sparse.issparse(values):
        return values.multiply(values).tocsr()
    return np.square(values, dtype=float)
