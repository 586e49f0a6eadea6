"""Posterior of the linear mixed models of all genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._mixed_equations import VARIANCES, MixedEquations, covariances

if TYPE_CHECKING:
    from torch import Tensor

    from scmedal_tools.train._mixed_model import MixedModel


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
        self.register_buffer("scale", torch.zeros(n_states, n_genes))
        self.register_buffer("means", torch.zeros(n_batch, n_states, n_genes))
        self.register_buffer("probabilities", torch.zeros(n_genes, len(VARIANCES)))
        self.register_buffer("likeness", torch.eye(n_states))
        self.register_buffer("common", torch.zeros(n_states, n_genes))
        self.register_buffer("loc", torch.zeros(n_batch, n_states, n_genes))
        self.register_buffer("sd", torch.zeros(n_batch, n_states, n_genes))

    def set_model(self, model: MixedModel) -> None:
        """Take over a fitted model."""
        for name, buffer in self.named_buffers():
            buffer.copy_(torch.as_tensor(getattr(model, name)))

    @property
    def ratios(self) -> Tensor:
        """Mean variances of both kinds of effects relative to that of the cells, 2 x genes."""
        return (self.probabilities @ self.probabilities.new_tensor(VARIANCES)[:, :2]).T

    def draw_deviation(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One draw of how far fixed and random effects are from their means, in their shapes."""
        sizes, means = self.sizes.double().cpu(), self.means.double().cpu()
        drawn = torch.multinomial(self.probabilities.cpu(), 1, generator=generator)[:, 0]
        considered = covariances(self.likeness.double().cpu())
        common, effects = torch.empty_like(means[0]), torch.empty_like(means)
        for point in drawn.unique().tolist():
            genes = drawn == point
            equations = MixedEquations(sizes, considered[point])
            common[:, genes], effects[:, :, genes] = equations.draw(means[:, :, genes], generator)
        return (
            self.scale * common.to(self.scale) - self.common,
            self.scale * effects.to(self.scale) - self.loc,
        )
