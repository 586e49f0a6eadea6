"""Effects of a batch on single genes: linear mixed models beside the network."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from ._levels import as_levels, effects_of, look_up
from ._mixed_effects import MixedEffects

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from scmedal_tools.train._mixed_model import MixedModel


class Draw(NamedTuple):
    """One posterior draw of :class:`~scmedal_tools.module._gene_effects.GeneEffects`."""

    weight: Tensor
    """Whether a gene follows the model with the network's effects, 0 or 1."""
    common: Tensor
    """How far the fixed effects are from their means, states x genes."""
    effects: list[Tensor]
    """How far each factor's effects are from their means, levels x states x genes."""


class GeneEffects(nn.Module):
    r"""Two mixed models of single genes, on what the network says with and without its effects.

    A cell in state :math:`s`, the nearest of a few centres of the content, in batch :math:`k` has
    the expected expression

    .. math:: (1 - w) \, (f_0 + c_s + e_{ks}) + w \, (f_k + c'_s + e'_{ks})

    of each gene. The decoder gives :math:`f_k` and, with all its effects at their mean, 0,
    :math:`f_0`; :math:`c` is fixed, and :math:`e` are random effects of the batch, and of the
    batch on cells in that state; with several factors their effects add up. All is fitted once the
    network is trained (:func:`scmedal_tools.model._finishing.fit_gene_effects`).

    Draws deviate from :math:`e` and :math:`e'` alike, by the posterior of the model without the
    network's effects (the other is too sure of itself, as its network has seen the training cells)
    times the root of ``dispersion``, which is found in validation cells.

    Parameters
    ----------
    n_batch, n_genes, n_latent, n_states
        Numbers of batches, genes, dimensions of the content, and states.
    n_crossed, n_new
        See :class:`~scmedal_tools.module.RedenBlock`.
    """

    centres: Tensor
    network_weight: Tensor
    dispersion: Tensor
    is_fitted: Tensor
    without_network: Sequence[MixedEffects]
    with_network: Sequence[MixedEffects]

    def __init__(
        self,
        n_batch: int,
        n_genes: int,
        n_latent: int,
        n_states: int,
        n_crossed: Sequence[int] = (),
        n_new: Sequence[int] | None = None,
    ):
        super().__init__()
        self.register_buffer("centres", torch.zeros(n_states, n_latent))
        self.register_buffer("network_weight", torch.zeros(()))
        self.register_buffer("dispersion", torch.ones(()))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))
        n_levels = (n_batch, *n_crossed)
        n_new = n_new or [0] * len(n_levels)
        self.without_network, self.with_network = (
            # A ModuleList does not tell what it holds.
            cast(
                "Sequence[MixedEffects]",
                nn.ModuleList(
                    MixedEffects(n, n_states, n_genes, new)
                    for n, new in zip(n_levels, n_new, strict=True)
                ),
            )
            for _ in range(2)
        )

    def clear(self) -> None:
        """Forget what was fitted."""
        self.is_fitted.fill_(False)

    def set_centres(self, centres: np.ndarray) -> None:
        """Take over the centres of the states; fewer than there is room for are repeated."""
        found = torch.as_tensor(centres)
        self.centres.copy_(found[torch.arange(len(self.centres)) % len(found)])

    def set_models(
        self,
        without: Sequence[MixedModel],
        with_network: Sequence[MixedModel],
        weight: float,
        dispersion: float = 1.0,
    ) -> None:
        """Take over the fitted models of all factors, the second's weight, and the dispersion."""
        for effects, models in (
            (self.without_network, without),
            (self.with_network, with_network),
        ):
            for of_factor, model in zip(effects, models, strict=True):
                of_factor.set_model(model)
        self.network_weight.fill_(weight)
        self.dispersion.fill_(dispersion)
        self.is_fitted.fill_(True)

    def state_of(self, content: Tensor) -> Tensor:
        """State of each cell, of shape ``(n_cells,)``."""
        return torch.cdist(content, self.centres).argmin(1)

    def draw(self, generator: torch.Generator, n_unseen: Sequence[int] | None = None) -> Draw:
        """One draw of the effects, and of which model holds for each gene.

        Effects of unseen levels, as many for each factor, are drawn from the prior.
        """
        genes = self.without_network[0].common[0]
        uniform = torch.rand(genes.shape, generator=generator).to(genes.device)
        weight = (uniform < self.network_weight).to(genes)
        spread, commons, effects = self.dispersion.sqrt(), [], []
        for without, with_network, n in zip(
            self.without_network,
            self.with_network,
            n_unseen or [0] * len(self.without_network),
            strict=True,
        ):
            of_common, deviations = without.draw_deviation(generator, n)
            commons.append(of_common)
            trained = slice(len(without.loc))
            deviations[trained] *= spread
            if n:
                # Of an unseen level the network has effects of its own: not those of both.
                rest = with_network.draw_deviation(generator, n)[1][len(without.loc) :]
                deviations[len(without.loc) :].lerp_(rest, weight)
            effects.append(deviations)
        return Draw(weight, spread * commons[0], effects)

    def forward(
        self,
        population: Tensor,
        own: Tensor,
        content: Tensor,
        levels: Tensor,
        genes: Tensor | None = None,
        draw: Draw | None = None,
    ) -> Tensor:
        """Expression of cells in a batch, from the network's without and with its effects.

        Both are of ``genes``, ``None`` for all. The effects are those of a draw, or their means.
        """
        levels = as_levels(levels, len(self.without_network))
        state = self.state_of(content)
        without, with_network = (
            expression
            + look_up(models[0].common, state, units=genes)
            + _effects([model.loc for model in models], levels, state, genes)
            for expression, models in (
                (population, self.without_network),
                (own, self.with_network),
            )
        )
        if draw is None:
            return torch.lerp(without, with_network, self.network_weight)
        values = torch.lerp(without, with_network, look_up(draw.weight, units=genes))
        values = values + look_up(draw.common, state, units=genes)
        return values + _effects(draw.effects, levels, state, genes)


def _effects(
    tables: Sequence[Tensor], levels: Tensor, state: Tensor, genes: Tensor | None
) -> Tensor:
    """Sum over the factors of the effects on cells in a state."""
    return reduce(
        add,
        (
            effects_of(table, level, state, units=genes)
            for table, level in zip(tables, levels.T, strict=True)
        ),
    )
