"""Reconstruction terms: what a cell pays for the distance to its reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

Likelihood = Literal["gaussian", "mse"]

# Cells that are reconstructed exactly would otherwise drive the loss to minus infinity.
MIN_LOG_SD = -5.0


class MeanSquaredError(nn.Module):
    """Squared error of each cell, averaged over genes (scMEDAL, Eq. 3)."""

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return a value for each cell, of shape ``(n_cells,)``."""
        return (x - x_hat).square().mean(1)


class GaussianNoise(nn.Module):
    r"""Negative log-likelihood of each cell in nats, summed over genes.

    .. math:: \sum_g \frac{(x_g - \hat x_g)^2}{2 \sigma^2} + \log \sigma

    up to a constant, with a learned noise :math:`\sigma` of all genes. It starts from the root of
    the genes' mean variance, which is 1 after scaling.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_sd = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return a value for each cell, of shape ``(n_cells,)``."""
        log_sd = self.log_sd.clamp_min(MIN_LOG_SD)
        squares = F.mse_loss(x_hat, x, reduction="none").sum(1)
        return squares * (0.5 * torch.exp(-2 * log_sd)) + x.shape[1] * log_sd


def reconstruction_term(likelihood: Likelihood) -> nn.Module:
    """Build the reconstruction term of that name."""
    return GaussianNoise() if likelihood == "gaussian" else MeanSquaredError()
