"""Autoencoders of the fixed-effects network: with and without the batch in the decoder."""

from __future__ import annotations

import itertools
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from scmedal_tools._gene_model import effects_of

from ._factor_levels import as_levels
from ._layers import Dropout, Normalization, normalization_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from torch import Tensor

    from ._settings import Activation


class Encoder(nn.Module):
    """SELU encoder of expression; the batch is not an input.

    Parameters
    ----------
    widths
        Number of genes, widths of the hidden layers, width of the latent.
    normalization
        Normalisation in the hidden layers, before the activation.
    latent_activation
        Activation of the latent layer.
    input_dropout
        Share of the genes that are not seen of a cell in training.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        normalization: Normalization,
        latent_activation: Activation,
        input_dropout: float = 0.0,
    ):
        super().__init__()
        self.layers = _linear_layers(widths)
        hidden = (normalization_layer(normalization, n) for n in widths[1:-1])
        self.norms = nn.ModuleList(hidden)
        self.latent_activation = F.selu if latent_activation == "selu" else nn.Identity()
        self.dropout = Dropout(input_dropout)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Activations of every layer, ``(n_cells, width)`` each; the last is the latent."""
        activations = []
        x = self.dropout(x)
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = F.selu(norm(layer(x)))
            activations.append(x)
        return [*activations, self.latent_activation(self.layers[-1](x))]


class TiedAutoencoder(Encoder):
    """The paper's: the decoder has the transposed weights of the encoder, and no batch either.

    Parameters
    ----------
    widths, **kwargs
        See :class:`~scmedal_tools.module._autoencoders.Encoder`.
    """

    def __init__(self, widths: Sequence[int], **kwargs: Any):
        super().__init__(widths, **kwargs)
        self.decoder_biases = nn.ParameterList(torch.zeros(n) for n in reversed(widths[:-1]))

    def decode(self, z: Tensor, levels: Tensor | None = None) -> Tensor:
        """Scaled expression, of shape ``(n_cells, n_genes)``; ``levels`` are not used."""
        *hidden, last = zip(reversed(self.layers), self.decoder_biases, strict=True)
        for layer, bias in hidden:
            z = F.selu(F.linear(z, layer.weight.T, bias))
        layer, bias = last
        return F.linear(z, layer.weight.T, bias)


class BatchAutoencoder(Encoder):
    """Autoencoder whose decoder is given the batch, so that its latent need not hold it.

    Every layer of the decoder rescales and shifts its units by the batch; the slopes and shifts
    sum to zero over the batches.

    Parameters
    ----------
    widths, normalization, **kwargs
        See :class:`~scmedal_tools.module._autoencoders.Encoder`.
    n_levels
        Number of levels of the batch and of further factors.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        n_levels: Sequence[int],
        normalization: Normalization,
        **kwargs: Any,
    ):
        super().__init__(widths, normalization=normalization, **kwargs)
        widths = list(reversed(widths))
        self.decoder = _linear_layers(widths)
        self.decoder_norms = nn.ModuleList(
            normalization_layer(normalization, n) for n in widths[1:-1]
        )
        effects = nn.ModuleList(BatchEffects(n_levels, n) for n in widths[1:])
        self.effects = cast("Sequence[BatchEffects]", effects)

    def decode(self, z: Tensor, levels: Tensor | None = None) -> Tensor:
        """Scaled expression ``(n_cells, n_genes)`` under some levels; without, no effects."""
        *hidden, last = self.decoder
        for layer, norm, effects in zip(hidden, self.decoder_norms, self.effects, strict=False):
            z = F.selu(effects(norm(layer(z)), levels))
        return self.effects[-1](last(z), levels)


class BatchEffects(nn.Module):
    """Slopes and shifts of the units of a layer for each level of some factors."""

    def __init__(self, n_levels: Sequence[int], n_units: int):
        super().__init__()
        self.slopes = nn.ParameterList(torch.zeros(n, n_units) for n in n_levels)
        self.shifts = nn.ParameterList(torch.zeros(n, n_units) for n in n_levels)
        for factor, n in enumerate(n_levels):
            self.register_buffer(f"trained_{factor}", torch.ones(n, dtype=torch.bool))

    @property
    def trained(self) -> list[Tensor]:
        """Which levels of each factor have training cells."""
        return [self.get_buffer(f"trained_{factor}") for factor in range(len(self.slopes))]

    def fit_levels(self, cells_per_level: Sequence[np.ndarray]) -> None:
        """Leave levels without training cells out: they have no effects."""
        for trained, cells in zip(self.trained, cells_per_level, strict=True):
            trained.copy_(torch.as_tensor(cells > 0))

    def forward(self, h: Tensor, levels: Tensor | None) -> Tensor:
        """Rescale and shift ``(n_cells, n_units)`` by the levels ``(n_cells, n_factors)``.

        Levels that were not trained, -1 among them, are as the average of those that were.
        """
        if levels is None:
            return h
        levels = as_levels(levels, len(self.slopes))
        slopes, shifts = (self._of(tables, levels) for tables in (self.slopes, self.shifts))
        return torch.addcmul(shifts, h, 1 + slopes)

    def _of(self, tables: Iterable[Tensor], levels: Tensor) -> Tensor:
        """Effects of the levels of each cell, summed over factors."""
        return reduce(add, map(self._of_factor, tables, levels.T, self.trained))

    def _of_factor(self, table: Tensor, level: Tensor, trained: Tensor) -> Tensor:
        """Effects of each cell's level, which sum to zero over the levels that are trained."""
        # Not table[trained].mean(0): a mask as an index makes a GPU wait.
        average = (trained / trained.sum()) @ table
        table = (table - average) * trained[:, None]
        return effects_of(table, level)


def _linear_layers(widths: Sequence[int]) -> Sequence[nn.Linear]:
    layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in itertools.pairwise(widths))
    # A ModuleList does not say what it holds.
    layers_ = cast("Sequence[nn.Linear]", layers)
    for layer in layers_:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(layer.bias)
    return layers_
