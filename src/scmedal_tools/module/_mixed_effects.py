"""Posterior of the linear mixed models of all genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ._mixed_equations import VARIANCES, MixedEquations, covariances, posterior_of_new

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
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

    sizes: Tensor
    scale: Tensor
    means: Tensor
    probabilities: Tensor
    new_probabilities: Tensor
    likeness: Tensor
    common: Tensor
    loc: Tensor
    sd: Tensor

    def __init__(self, n_batch: int, n_states: int, n_genes: int, n_new: int = 0):
        super().__init__()
        self.n_fitted, self.n_new = n_batch - n_new, n_new
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
        for name, buffer in self.named_buffers():
            if name != "new_probabilities":
                buffer.copy_(torch.as_tensor(getattr(model, name)))

    def forget_new(self) -> None:
        """Put the effects of the new batches at 0."""
        self.loc[self.n_fitted :] = 0.0

    def learn_new(self, sizes: np.ndarray, means: np.ndarray) -> None:
        """Find the effects of the new batches from their groups' sizes and means.

        The fixed effects stay as they are; each gene's probabilities of the variances are the
        prior of those for the new batches.
        """
        new = slice(self.n_fitted, None)
        self.sizes[new] = torch.as_tensor(sizes[new]).to(self.sizes)
        self.means[new] = torch.as_tensor(means[new]).to(self.means) / self.scale
        n_cells, scaled, likeness = self._known()
        common, fitted = (x.cpu().double() for x in (self.common / self.scale, self.probabilities))
        posterior = posterior_of_new(n_cells[new], scaled[new], likeness, common, fitted)
        self.new_probabilities.copy_(posterior.probabilities)
        self.loc[new] = self.scale * posterior.loc.to(self.scale)
        self.sd[new] = self.scale * posterior.sd.to(self.scale)

    def _known(self) -> tuple[Tensor, ...]:
        """Sizes, means and likeness, where matrices can be inverted in double precision."""
        return tuple(x.cpu().double() for x in (self.sizes, self.means, self.likeness))

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
        sizes, means, likeness = self._known()
        unseen = torch.zeros(n_unseen, *means.shape[1:]).to(means)
        sizes, means = torch.cat([sizes, unseen[:, :, 0]]), torch.cat([means, unseen])
        considered = covariances(likeness)
        common, effects = torch.empty_like(means[0]), torch.empty_like(means)
        for point, genes in _drawn(self.probabilities, generator):
            equations = MixedEquations(sizes, considered[point], self.n_fitted)
            of_genes = means[:, :, genes]
            common[:, genes] = equations.draw_common(of_genes, generator)
            effects[:, :, genes] = equations.draw_effects(of_genes, common[:, genes], generator)
        if self.n_new:
            new = slice(self.n_fitted, len(self.loc))
            for point, genes in _drawn(self.new_probabilities, generator):
                equations = MixedEquations(sizes, considered[point], self.n_fitted)
                # Given the same fixed effects, from which all are counted.
                drawn = equations.draw_effects(means[:, :, genes], common[:, genes], generator)
                effects[new, :, genes] = drawn[new]
        effects = self.scale * effects.to(self.scale)
        effects[: len(self.loc)] -= self.loc
        return self.scale * common.to(self.scale) - self.common, effects


def _drawn(probabilities: Tensor, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    """Draw variances for each gene; those drawn, and the genes that have them."""
    drawn = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0]
    for point in drawn.unique().tolist():
        yield point, torch.nonzero(drawn == point)[:, 0]
