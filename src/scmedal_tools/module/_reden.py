"""Dense block that carries random effects (REDEN)."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

from ._factor_levels import as_levels
from ._layers import Normalization, normalization_layer
from ._random_effects import RandomEffects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from torch import Tensor

    from ._settings import EffectsSettings

    # Not a type statement, which the documentation would not resolve.
    EffectsDraw: TypeAlias = Mapping[str, Any]  # noqa: UP040

KINDS = ("slope", "bias")


class RedenBlock(nn.Module):
    r"""Dense layer whose output is rescaled and shifted by the cell's batch.

    .. math:: h = a\big(\mathrm{norm}(W x + c) \odot (1 + \gamma_z) + b_z\big)

    with random slopes :math:`\gamma` and random biases :math:`b` (scMEDAL, section 4.2.2 and
    supplementary Fig. S1). The slope multiplies as :math:`1 + \gamma` because its prior has
    mean zero. Effects of several factors add up.

    Parameters
    ----------
    n_input, n_output
        Widths of the block's input and output.
    n_batch
        Number of batches.
    normalization
        Normalisation of the dense layer's output, before the effects.
    activation
        Function applied after the effects.
    dense_activation
        Function applied to the dense layer's output, before the normalisation.
    effects
        Settings of all :class:`RandomEffects` tables; ``None`` for a block without.
    n_crossed
        Numbers of levels of further factors.
    n_new
        For each factor, the number of its last levels that were added to a trained network.

    Examples
    --------
    >>> import scmedal_tools as smt
    >>> import torch
    >>> settings = smt.module.EffectsSettings(
    ...     prior_sd=0.1, learn_prior=True, posterior_sd=0.05, mean_sd=0.0
    ... )
    >>> identity = torch.nn.Identity()
    >>> block = smt.module.RedenBlock(
    ...     n_input=8,
    ...     n_output=16,
    ...     n_batch=4,
    ...     normalization="layer",
    ...     activation=torch.nn.functional.selu,
    ...     dense_activation=identity,
    ...     effects=settings,
    ... )
    >>> block(torch.rand(10, 8), torch.randint(4, (10,)), sample=True).shape
    torch.Size([10, 16])
    """

    def __init__(
        self,
        n_input: int,
        n_output: int,
        n_batch: int,
        *,
        normalization: Normalization,
        activation: Callable[[Tensor], Tensor],
        dense_activation: Callable[[Tensor], Tensor],
        effects: EffectsSettings | None,
        n_crossed: Sequence[int] = (),
        n_new: Sequence[int] | None = None,
    ):
        super().__init__()
        self.dense = nn.Linear(n_input, n_output)
        nn.init.normal_(self.dense.weight, std=n_input**-0.5)
        nn.init.zeros_(self.dense.bias)
        self.norm = normalization_layer(normalization, n_output)
        self.slope: RandomEffects | None = None
        self.bias: RandomEffects | None = None
        self.crossed = nn.ModuleList()
        if effects is not None:
            n_levels = (n_batch, *n_crossed)
            tables = [
                {kind: RandomEffects(n, n_output, effects, new) for kind in KINDS}
                for n, new in zip(n_levels, n_new or [0] * len(n_levels), strict=True)
            ]
            self.slope, self.bias = (tables[0][kind] for kind in KINDS)
            self.crossed.extend(nn.ModuleDict(pair) for pair in tables[1:])
        self.activation = activation
        self.dense_activation = dense_activation

    def forward(
        self,
        x: Tensor,
        levels: Tensor,
        sample: bool,
        units: Tensor | None = None,
        draw: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Map ``(n_cells, n_input)`` to ``(n_cells, n_output)`` under each cell's batch.

        Parameters
        ----------
        x
            Input of shape ``(n_cells, n_input)``.
        levels
            Level of each cell of each factor, ``(n_cells, n_factors)``, or ``(n_cells,)`` of the
            only one. One row for all cells is quicker; of several targets they are on further axes
            before these, as the result then is.
        sample
            Draw the effects, one draw for all cells, instead of taking their means.
        units
            Positions of the units of the output to compute; ``None`` for all.
        draw
            Tables to use instead, by their names within the block.

        Raises
        ------
        ValueError
            If the levels do not fit the factors.
        """
        h = self._before_effects(x, units)
        if pairs := self._pairs:
            levels, drawn = as_levels(levels, len(pairs), of_targets=True), draw or {}
            effects = [
                [
                    table(level, sample, units, drawn.get(name_in_block(kind, factor)))
                    for kind, table in zip(KINDS, pair, strict=True)
                ]
                for factor, (level, pair) in enumerate(zip(levels.unbind(-1), pairs, strict=True))
            ]
            slope, bias = (reduce(add, of_kind) for of_kind in zip(*effects, strict=True))
            h = torch.addcmul(bias, h, 1 + slope)
        return self.activation(h)

    @property
    def _pairs(self) -> list[tuple[RandomEffects, RandomEffects]]:
        """Slopes and biases of each factor; none of a block without effects."""
        if self.slope is None or self.bias is None:
            return []
        crossed = [tuple(pair.values()) for pair in cast("Sequence[nn.ModuleDict]", self.crossed)]
        return [
            (self.slope, self.bias),
            *cast("list[tuple[RandomEffects, RandomEffects]]", crossed),
        ]

    def _before_effects(self, x: Tensor, units: Tensor | None) -> Tensor:
        if units is not None and isinstance(self.norm, nn.Identity):
            h = F.linear(x, self.dense.weight[units], self.dense.bias[units])
            return self.dense_activation(h)
        # A normalisation needs the other units too.
        h = self.dense_activation(self.dense(x))
        # Batch normalisation takes two axes.
        h = self.norm(h.flatten(end_dim=-2)).view(h.shape)
        return h if units is None else h[..., units]

    @torch.no_grad()
    def centre_effects(self) -> None:
        """Move what the effects of all batches share into the parameters before them."""
        layer = self.norm if hasattr(self.norm, "weight") else self.dense
        if layer is self.dense and not isinstance(self.dense_activation, nn.Identity):
            return  # a function between them and the effects
        fixed_weight, fixed_bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        pairs = self._pairs
        for slope, bias in pairs:
            factor = 1 + slope.centre()
            fixed_weight.mul_(factor[:, None] if fixed_weight.ndim == 2 else factor)
            fixed_bias.mul_(factor)
            for other, _ in pairs:
                other.loc.div_(factor)
            shift = bias.centre()
            fixed_bias.add_(shift)
            # The slopes act on it there.
            for own_slope, own_bias in pairs:
                own_bias.loc.addcmul_(shift, own_slope.loc, value=-1)


def name_in_block(kind: str, factor: int) -> str:
    """Name of a factor's slopes or biases within their block."""
    return f"crossed.{factor - 1}.{kind}" if factor else kind


def factor_of(table: str) -> int:
    """Factor that a table of random effects belongs to, from its name; 0 is the batch."""
    _, crossed, rest = table.partition("crossed.")
    return int(rest.partition(".")[0]) + 1 if crossed else 0
