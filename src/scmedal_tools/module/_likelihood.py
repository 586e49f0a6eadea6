"""Reconstruction terms: what a cell pays for the distance to its reconstruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

Likelihood = Literal["gaussian", "gaussian-gene", "mse"]

# A gene without variance would otherwise drive its noise, and with it the loss, to infinity.
MIN_LOG_SD = -5.0


class MeanSquaredError(nn.Module):
    """Squared error of each cell, averaged over genes (scMEDAL, Eq. 3)."""

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return a value for each cell, of shape ``(n_cells,)``."""
        return (x - x_hat).square().mean(1)


class GaussianNoise(nn.Module):
    r"""Negative log-likelihood of each cell in nats, summed over genes.

    .. math:: \sum_g \frac{(x_g - \hat x_g)^2}{2 \sigma_g^2} + \log \sigma_g

    up to a constant, with a learned noise :math:`\sigma_g`, the same for all genes or one for
    each. It starts from the root of the genes' mean variance, which is 1 after scaling.

    Parameters
    ----------
    n_noise
        Number of noise parameters: 1, or the number of genes.
    """

    def __init__(self, n_noise: int):
        super().__init__()
        self.log_sd = nn.Parameter(torch.zeros(n_noise))

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return a value for each cell, of shape ``(n_cells,)``."""
        log_sd = self.log_sd.clamp_min(MIN_LOG_SD)
        squares, weight = F.mse_loss(x_hat, x, reduction="none"), 0.5 * torch.exp(-2 * log_sd)
        if len(log_sd) == 1:
            return squares.sum(1) * weight + x.shape[1] * log_sd
        return squares @ weight + log_sd.sum()


def reconstruction_term(likelihood: Likelihood, n_genes: int) -> nn.Module:
    """Build the reconstruction term of that name."""
    if likelihood == "mse":
        return MeanSquaredError()
    return GaussianNoise(1 if likelihood == "gaussian" else n_genes)
