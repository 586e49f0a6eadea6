"""Posterior of the linear mixed models of all genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._mixed_equations import VARIANCES, MixedEquations, covariances, mixture, probabilities_of_new

if TYPE_CHECKING:
    from torch import Tensor

    from scmedal_tools.train._mixed_model import MixedModel


class MixedEffects(nn.Module):
    """Posterior of the effects of batches on genes, and on genes in a state.

    Parameters
    ----------
    n_batch, n_states, n_genes
        Numbers of batches, states and genes.
    n_new
        The last ones of the batches, added to a trained network: nothing else is learned of them.
    """

    def __init__(self, n_batch: int, n_states: int, n_genes: int, n_new: int = 0):
        super().__init__()
        self.n_fitted = n_batch - n_new
        self.register_buffer("sizes", torch.zeros(n_batch, n_states))
        self.register_buffer("scale", torch.zeros(n_states, n_genes))
        self.register_buffer("means", torch.zeros(n_batch, n_states, n_genes))
        self.register_buffer("probabilities", torch.zeros(n_genes, len(VARIANCES)))
        if n_new:
            self.register_buffer("new_probabilities", self.probabilities.clone())
        self.register_buffer("likeness", torch.eye(n_states))
        self.register_buffer("common", torch.zeros(n_states, n_genes))
        self.register_buffer("loc", torch.zeros(n_batch, n_states, n_genes))
        self.register_buffer("sd", torch.zeros(n_batch, n_states, n_genes))

    def set_model(self, model: MixedModel) -> None:
        """Take over a fitted model."""
        for name, values in vars(model).items():
            getattr(self, name).copy_(torch.as_tensor(values))

    def learn_new(self, sizes, means) -> None:
        """Find the effects of the new batches from their groups' sizes and means.

        The fixed effects stay as they are; each gene's probabilities of the variances are the
        prior of those for the new batches.
        """
        new = slice(self.n_fitted, None)
        self.sizes[new] = torch.as_tensor(sizes[new]).to(self.sizes)
        self.means[new] = torch.as_tensor(means[new]).to(self.means) / self.scale
        known, n_fitted = self._known(), self.n_fitted
        fitted = self.probabilities.double().cpu()
        probabilities = probabilities_of_new(*known, fitted, n_fitted)
        self.new_probabilities.copy_(probabilities)
        posterior = mixture(*known, probabilities, n_fitted)
        self.loc[new] = self.scale * posterior.loc[new].to(self.scale)
        self.sd[new] = self.scale * posterior.sd[new].to(self.scale)

    def _known(self) -> tuple[Tensor, ...]:
        """Sizes, means and likeness, where matrices can be inverted in double precision."""
        return tuple(x.double().cpu() for x in (self.sizes, self.means, self.likeness))

    @property
    def ratios(self) -> Tensor:
        """Mean variances of both kinds of effects relative to that of the cells, 2 x genes."""
        return (self.probabilities @ self.probabilities.new_tensor(VARIANCES)[:, :2]).T

    def draw_deviation(
        self, generator: torch.Generator, n_unseen: int = 0
    ) -> tuple[Tensor, Tensor]:
        """One draw of how far fixed and random effects are from their means, in their shapes.

        Effects of unseen batches, drawn from the prior, follow those of the others.
        """
        common, effects = self._draw(self.probabilities, generator, n_unseen)
        if self.n_fitted < len(self.loc):
            new = slice(self.n_fitted, len(self.loc))
            effects[new] = self._draw(self.new_probabilities, generator)[1][new]
        effects[: len(self.loc)] -= self.loc
        return common - self.common, effects

    def _draw(
        self, probabilities: Tensor, generator: torch.Generator, n_unseen: int = 0
    ) -> tuple[Tensor, Tensor]:
        sizes, means, likeness = self._known()
        unseen = torch.zeros(n_unseen, *means.shape[1:]).to(means)
        sizes, means = torch.cat([sizes, unseen[:, :, 0]]), torch.cat([means, unseen])
        drawn = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0]
        considered = covariances(likeness)
        common, effects = torch.empty_like(means[0]), torch.empty_like(means)
        for point in drawn.unique().tolist():
            genes = drawn == point
            equations = MixedEquations(sizes, considered[point], self.n_fitted)
            common[:, genes], effects[:, :, genes] = equations.draw(means[:, :, genes], generator)
        return self.scale * common.to(self.scale), self.scale * effects.to(self.scale)
