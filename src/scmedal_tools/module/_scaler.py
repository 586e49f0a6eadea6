"""Scaling of the expression, fitted on the training cells and inverted on output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from ._statistics import ExpressionStatistics

Scaling = Literal["centred", "minmax"]


class ExpressionScaler(nn.Module):
    """Affine scaling with one factor for all genes, so that genes keep their relative variance.

    Parameters
    ----------
    n_genes
        Number of genes.
    scaling
        ``"centred"`` subtracts each gene's mean and divides by the root of the genes' mean
        variance; ``"minmax"`` maps the smallest and largest value of the whole matrix to 0 and 1
        (scMEDAL, supplement 2.2).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, n_genes: int, scaling: Scaling):
        super().__init__()
        self.scaling = scaling
        self.register_buffer("shift", torch.zeros(n_genes))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, statistics: ExpressionStatistics) -> None:
        """Take over the statistics of the training cells."""
        if self.scaling == "centred":
            self.shift.copy_(torch.as_tensor(statistics.mean))
            self.scale.fill_(statistics.variance.mean() ** 0.5)
        else:
            self.shift.fill_(statistics.minimum)
            self.scale.fill_(statistics.maximum - statistics.minimum)

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``(n_cells, n_genes)`` expression, which may arrive sparse or by columns."""
        # Masks of dropout and sums have the order of memory, which follows the storage.
        x = x.contiguous() if x.layout == torch.strided else x.to_dense()
        return (x - self.shift).div_(self.scale)

    def inverse(self, scaled: Tensor, genes: Tensor | None = None) -> Tensor:
        """Return scaled expression, of some genes or all, to log-expression."""
        return torch.addcmul(
            self.shift if genes is None else self.shift[genes], scaled, self.scale
        )
