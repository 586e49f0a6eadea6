"""Building blocks that the fixed-effects and the random-effects networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Normalization = Literal["batch", "layer", "none"]

# Keras' defaults, which the paper's networks were trained with.
BATCH_NORM_EPS = 1e-3
BATCH_NORM_MOMENTUM = 0.01


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
        Number of classes.
    dropout
        Share of the hidden units that is left out in training.
    """

    def __init__(
        self, n_input: int, n_hidden: Sequence[int], n_classes: int, dropout: float = 0.0
    ):
        layers: list[nn.Module] = []
        for width in n_hidden:
            layers += [nn.Linear(n_input, width), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
            n_input = width
        super().__init__(*layers, nn.Linear(n_input, n_classes))

    def cross_entropy(self, features: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nats of each cell's class, of shape ``(n_cells,)``."""
        return F.cross_entropy(self(features), target, reduction="none")
