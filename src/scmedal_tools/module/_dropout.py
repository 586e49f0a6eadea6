"""Dropout that is quick on a processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Values of 16 random bits.
N_VALUES = 2**16


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Set a share of the values to 0 and scale the others, as :func:`torch.nn.functional.dropout`.

    On a processor one random number of 64 bits decides about four values, which is several times
    faster; the share is rounded to a multiple of 1/65,536 there.
    """
    if not (share and training):
        return x
    if x.device.type != "cpu" or share == 1:
        # Contiguous, as the mask is drawn in the order of memory, which follows the storage.
        return F.dropout(x.contiguous(), share)
    numbers = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    kept = numbers.view(torch.int16)[: x.numel()].view(x.shape).float()
    # The numbers begin at -32,768. Comparisons, which give booleans, would take longer.
    smallest_kept = round(share * N_VALUES) - N_VALUES // 2
    kept = kept.sub_(smallest_kept - 1).clamp_(0, 1).div_(1 - share)
    return x * kept.to(x.dtype)


class Dropout(nn.Dropout):
    """Layer of :func:`dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of ``x`` in training."""
        return dropout(x, self.p, self.training)
