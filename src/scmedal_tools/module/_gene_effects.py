"""Effects of a batch on single genes: linear mixed models beside the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ._mixed_effects import MixedEffects

if TYPE_CHECKING:
    from torch import Tensor

    from scmedal_tools.train._mixed_model import MixedModel


class Draw(NamedTuple):
    """One posterior draw of :class:`GeneEffects`."""

    weight: Tensor
    """Whether a gene follows the model with the network's effects, 0 or 1."""
    common: Tensor
    """How far the fixed effects are from their means, states x genes."""
    effects: Tensor
    """How far the random effects are from their means, batches x states x genes."""


class GeneEffects(nn.Module):
    r"""Two mixed models of single genes, on what the network says with and without its effects.

    A cell in state :math:`s`, the nearest of a few centres of the content, in batch :math:`k` has
    the expected expression

    .. math:: (1 - w) \, (f_0 + c_s + e_{ks}) + w \, (f_k + c'_s + e'_{ks})

    of each gene. The decoder gives :math:`f_k` and, with all its effects at their mean, 0,
    :math:`f_0`; :math:`c` is fixed, and :math:`e` are random effects of the batch, and of the
    batch on cells in that state. All is fitted once the network is trained
    (:func:`scmedal_tools.model._finishing.fit_gene_effects`).

    Draws deviate from :math:`e` and :math:`e'` alike, by the posterior of the model without the
    network's effects (the other is too sure of itself, as its network has seen the training cells)
    times the root of ``dispersion``, which is found in validation cells.

    Parameters
    ----------
    n_batch, n_genes, n_latent, n_states
        Numbers of batches, genes, dimensions of the content, and states.
    """

    def __init__(self, n_batch: int, n_genes: int, n_latent: int, n_states: int):
        super().__init__()
        self.register_buffer("centres", torch.zeros(n_states, n_latent))
        self.register_buffer("network_weight", torch.zeros(()))
        self.register_buffer("dispersion", torch.ones(()))
        self.register_buffer("is_fitted", torch.zeros((), dtype=torch.bool))
        self.without_network = MixedEffects(n_batch, n_states, n_genes)
        self.with_network = MixedEffects(n_batch, n_states, n_genes)
        self.fixed: Draw | None = None

    def clear(self) -> None:
        """Forget what was fitted."""
        self.is_fitted.fill_(False)

    def set_centres(self, centres) -> None:
        """Take over the centres of the states; fewer than there is room for are repeated."""
        centres = torch.as_tensor(centres)
        self.centres.copy_(centres[torch.arange(len(self.centres)) % len(centres)])

    def set_models(
        self, without: MixedModel, with_network: MixedModel, weight: float, dispersion: float = 1.0
    ) -> None:
        """Take over both fitted models, the weight of the second, and the draws' dispersion."""
        self.without_network.set_model(without)
        self.with_network.set_model(with_network)
        self.network_weight.fill_(weight)
        self.dispersion.fill_(dispersion)
        self.is_fitted.fill_(True)

    def state_of(self, content: Tensor) -> Tensor:
        """State of each cell, of shape ``(n_cells,)``."""
        return torch.cdist(content, self.centres).argmin(1)

    def draw(self, generator: torch.Generator) -> Draw:
        """One draw of the effects, and of which model holds for each gene."""
        genes = self.without_network.common[0]
        uniform = torch.rand(genes.shape, generator=generator).to(genes.device)
        deviations = self.without_network.draw_deviation(generator)
        return Draw(
            (uniform < self.network_weight).to(genes),
            *(self.dispersion.sqrt() * deviation for deviation in deviations),
        )

    def forward(
        self, population: Tensor, own: Tensor, content: Tensor, batch_index: Tensor
    ) -> Tensor:
        """Expression of cells in a batch, from the network's without and with its effects.

        While ``fixed`` holds a draw, that is what is added.
        """
        state = self.state_of(content)
        without, with_network = (
            model.common[state] + model.loc[batch_index, state]
            for model in (self.without_network, self.with_network)
        )
        values = self._average(population + without, own + with_network, state)
        if self.fixed is not None:
            values = values + self.fixed.effects[batch_index, state]
        return values

    def in_population(self, population: Tensor, own: Tensor, content: Tensor) -> Tensor:
        """Expression of cells with all effects on genes at their mean, 0."""
        state = self.state_of(content)
        without = population + self.without_network.common[state]
        return self._average(without, own + self.with_network.common[state], state)

    def _average(self, without: Tensor, with_network: Tensor, state: Tensor) -> Tensor:
        """Average of both models, or what a draw takes of them, with its fixed effects."""
        if self.fixed is None:
            return torch.lerp(without, with_network, self.network_weight)
        return torch.lerp(without, with_network, self.fixed.weight) + self.fixed.common[state]
