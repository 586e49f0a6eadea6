"""Effects of a batch on single genes: linear mixed models beside the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from scmedal_tools.train._mixed_model import MixedModel


class Draw(NamedTuple):
    """One posterior draw of :class:`GeneEffects`."""

    weight: Tensor
    """Whether a gene follows the model with the network's effects, 0 or 1."""
    without_network: Tensor
    with_network: Tensor


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

    def draw(self, generator: torch.Generator | None = None) -> Draw:
        """One draw of the effects, and of which model holds for each gene."""
        genes = self.without_network.common[0]
        device = genes.device if generator is None else generator.device
        uniform = torch.rand(genes.shape, generator=generator, device=device).to(genes.device)
        weight = (uniform < self.network_weight).to(genes)
        deviation = self.dispersion.sqrt() * self.without_network.draw_deviation(generator)
        return Draw(
            weight, self.without_network.loc + deviation, self.with_network.loc + deviation
        )

    def forward(
        self, population: Tensor, own: Tensor, content: Tensor, batch_index: Tensor
    ) -> Tensor:
        """Expression of cells in a batch, from the network's without and with its effects.

        While ``fixed`` holds a draw, that is what is added.
        """
        draw = self.fixed or Draw(
            self.network_weight, self.without_network.loc, self.with_network.loc
        )
        state = self.state_of(content)
        without = population + self.without_network.common[state]
        without = without + draw.without_network[batch_index, state]
        own = own + self.with_network.common[state] + draw.with_network[batch_index, state]
        return without + draw.weight * (own - without)

    def in_population(self, population: Tensor, own: Tensor, content: Tensor) -> Tensor:
        """Expression of cells with all effects on genes at their mean, 0."""
        state = self.state_of(content)
        weight = self.fixed.weight if self.fixed else self.network_weight
        without = population + self.without_network.common[state]
        return without + weight * (own + self.with_network.common[state] - without)


class MixedEffects(nn.Module):
    """Posterior of the effects of batches on genes, and on genes in a state.

    Parameters
    ----------
    n_batch, n_states, n_genes
        Numbers of batches, states and genes.
    """

    def __init__(self, n_batch: int, n_states: int, n_genes: int):
        super().__init__()
        self.register_buffer("sizes", torch.zeros(n_batch, n_states))
        self.register_buffer("ratios", torch.zeros(2, n_genes))
        self.register_buffer("scale", torch.zeros(n_states, n_genes))
        self.register_buffer("common", torch.zeros(n_states, n_genes))
        self.register_buffer("loc", torch.zeros(n_batch, n_states, n_genes))

    def set_model(self, model: MixedModel) -> None:
        """Take over a fitted model."""
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.as_tensor(getattr(model, name)))

    def posterior(self) -> tuple[Tensor, Tensor, Tensor]:
        """Variances of effects of batches, of those on states given them, and shrinkage of these.

        Relative to the variance of the cells; shapes ``(n_batch, n_genes)`` and, twice,
        ``(n_batch, n_states, n_genes)``.
        """
        of_batch, of_state = self.ratios
        sizes = self.sizes[:, :, None]
        shrinkage = sizes * of_state / (1 + sizes * of_state)
        information = (sizes / (1 + sizes * of_state)).sum(1)
        return of_batch / (1 + of_batch * information), of_state * (1 - shrinkage), shrinkage

    def posterior_sd(self) -> Tensor:
        """Standard deviations of the effects, ``(n_batch, n_states, n_genes)``."""
        batch_variance, state_variance, shrinkage = self.posterior()
        of_batch = (1 - shrinkage).square() * batch_variance[:, None]
        return self.scale * (of_batch + state_variance).sqrt()

    def draw_deviation(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw of how far the effects are from their means, in the shape of these."""
        device = self.loc.device if generator is None else generator.device

        def normal(variance: Tensor) -> Tensor:
            noise = torch.randn(variance.shape, generator=generator, device=device)
            return variance.sqrt() * noise.to(variance.device)

        batch_variance, state_variance, shrinkage = self.posterior()
        # The more the batch explains, the less is left for its states.
        of_batch = (1 - shrinkage) * normal(batch_variance)[:, None]
        return self.scale * (of_batch + normal(state_variance))
