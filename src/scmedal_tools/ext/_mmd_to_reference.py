"""Maximum mean discrepancy between batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

# Kernel widths, as multiples of the mean squared distance between the cells of a minibatch.
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


def mmd_to_reference(z: Tensor, batch: Tensor, n_batch: int, reference: int | Tensor) -> Tensor:
    r"""Squared maximum mean discrepancy of every batch to a reference, summed over batches.

    .. math::
        \sum_{b \neq r} \frac{\sum_{i \neq j \in b} k(z_i, z_j)}{n_b (n_b - 1)}
        + \frac{\sum_{i \neq j \in r} k(z_i, z_j)}{n_r (n_r - 1)}
        - \frac{2 \sum_{i \in b, j \in r} k(z_i, z_j)}{n_b n_r}

    Its expectation does not depend on how many cells a minibatch has of a batch (Gretton et al.,
    2012, Eq. 3), and so it may be negative. The kernel :math:`k` is the mean of Gaussians
    :math:`e^{-|z_i - z_j|^2 / s d}`, with :math:`d` the mean squared distance between cells and
    :math:`s` from 1/4 to 4.

    Parameters
    ----------
    z
        Latents, ``(n_cells, n_latent)``.
    batch
        Codes of the batches, ``(n_cells,)``.
    n_batch
        Number of batches. Those with fewer than two cells here are left out.
    reference
        Code of the reference; with fewer than two cells of it the result is 0.

    Returns
    -------
    torch.Tensor
        A number.
    """
    kernel = _kernel(z)
    member = F.one_hot(batch, n_batch).to(z.dtype)
    sizes = member.sum(0)
    sums = member.T @ kernel @ member
    pairs = (sizes * (sizes - 1)).clamp_min(1)
    within = (sums.diagonal() - member.T @ kernel.diagonal()) / pairs
    between = sums[reference] / (sizes * sizes[reference]).clamp_min(1)
    counted = (sizes > 1) & (sizes[reference] > 1)
    counted[reference] = False
    return (within + within[reference] - 2 * between)[counted].sum()


def _kernel(z: Tensor) -> Tensor:
    norms = z.square().sum(1)
    squared = (norms[:, None] + norms - 2 * z @ z.T).clamp_min(0)
    # Held fixed: shrinking the latent does not bring batches closer.
    n_pairs = max(len(z) * (len(z) - 1), 1)
    width = (squared.detach().sum() / n_pairs).clamp_min(torch.finfo(z.dtype).tiny)
    return torch.stack([torch.exp(-squared / (scale * width)) for scale in SCALES]).mean(0)
