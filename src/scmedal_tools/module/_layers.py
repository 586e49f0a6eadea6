"""Building blocks that the fixed-effects and the random-effects networks share."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Literal

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
            layers += [nn.Dropout(dropout)] if dropout else []
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
