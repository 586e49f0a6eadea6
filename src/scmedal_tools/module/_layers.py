"""Building blocks that the fixed-effects and the random-effects networks share."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional as F

from ._factor_levels import as_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Normalization = Literal["batch", "layer", "none"]

# Keras' defaults, which the paper's networks were trained with.
BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.01


class Dropout(nn.Module):
    """Dropout that costs a CPU a fifth of PyTorch's, which there draws 64 random bits for a value.

    Sixteen are enough: the share is that to a hundred-thousandth.

    Parameters
    ----------
    share
        Share of the values that is set to zero in training; the others are scaled up.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = round(share * 2**16) / 2**16
        if not 0 <= self.share < 1:
            raise ValueError(f"A dropout of {share} is no share: pass at least 0 and below 1.")

    def forward(self, x: Tensor) -> Tensor:
        """Leave out some of the values."""
        if not (self.share and self.training):
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device="cpu").random_(
            -(2**63), 2**63 - 1
        )
        bits = drawn.view(torch.int16)[: x.numel()].view(x.shape)
        kept = bits.ge_(round(self.share * 2**16) - 2**15).to(x.dtype)
        return kept.mul_(1 / (1 - self.share)).mul(x)


def normalization_layer(kind: Normalization, width: int) -> nn.Module:
    """Normalisation of one layer's ``width`` units.

    ``"batch"`` follows Keras' constants, as in the paper's networks.
    """
    if kind == "batch":
        return nn.BatchNorm1d(width, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
    return nn.LayerNorm(width) if kind == "layer" else nn.Identity()


class Classifier(nn.Sequential):
    """Dense ReLU layers followed by a linear layer that returns logits.

    Parameters
    ----------
    n_input
        Width of the input.
    n_hidden
        Widths of the hidden layers.
    n_classes
        Number of classes; or of those of each factor that is predicted.
    dropout
        Share of the hidden units that is left out in training.
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: Sequence[int],
        n_classes: int | Sequence[int],
        dropout: float = 0.0,
    ):
        n_classes = [n_classes] if isinstance(n_classes, int) else list(n_classes)
        layers: list[nn.Module] = []
        for width in n_hidden:
            layers += [nn.Linear(n_input, width), nn.ReLU()]
            layers += [Dropout(dropout)] if dropout else []
            n_input = width
        super().__init__(*layers, nn.Linear(n_input, sum(n_classes)))
        self.n_classes = n_classes

    def cross_entropy(self, features: Tensor, levels: Tensor) -> Tensor:
        """Cross-entropy in nats of each cell's levels, summed over factors, ``(n_cells,)``."""
        levels = as_levels(levels, len(self.n_classes))
        logits = self(features).split(self.n_classes, dim=1)
        return reduce(
            add,
            (
                F.cross_entropy(of_factor, level, reduction="none")
                for of_factor, level in zip(logits, levels.T, strict=True)
            ),
        )
