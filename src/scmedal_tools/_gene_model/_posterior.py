"""Posterior of the linear mixed models of all genes, for one factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ._equations import VARIANCES, MixedEquations, covariances
from ._fit import NEGLIGIBLE, NETWORK_SHARE, points

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import Tensor

    from ._fit import MixedModel

N_POINTS = 2 * len(VARIANCES)


class FactorDraw(NamedTuple):
    """One posterior draw of :class:`MixedEffects`."""

    follows: Tensor
    """Whether a gene's effects vary around the network's guess, 0 or 1, levels x genes."""
    fixed: Tensor
    """Fixed effects, states x genes."""
    effects: Tensor
    """Random effects beyond the guess, levels x states x genes."""


class Averages(NamedTuple):
    """Posterior of effects averaged over states, each of shape levels x genes."""

    mean: Tensor
    sd: Tensor
    negative: Tensor
    """Probability that the effect is below 0."""
    positive: Tensor
    """Probability that it is above."""


class MixedEffects(nn.Module):
    """Posterior of the effects of a factor's levels on genes, and on genes in a state.

    Parameters
    ----------
    n_levels, n_states, n_genes
        Numbers of levels, states and genes.
    n_new
        The last ones of the levels, added to a trained network: nothing else is learned of them.
    """

    sizes: Tensor
    scale: Tensor
    means: Tensor
    guess: Tensor
    probabilities: Tensor
    new_probabilities: Tensor
    correlation: Tensor
    fixed: Tensor
    loc: Tensor
    sd: Tensor
    content: Tensor

    def __init__(self, n_levels: int, n_states: int, n_genes: int, n_new: int = 0):
        super().__init__()
        self.n_fitted, self.n_new = n_levels - n_new, n_new
        self.register_buffer("sizes", torch.zeros(n_levels, n_states))
        self.register_buffer("scale", torch.zeros(n_states, n_genes))
        self.register_buffer("means", torch.zeros(n_levels, n_states, n_genes))
        self.register_buffer("guess", torch.zeros(n_levels, n_states, n_genes))
        self.register_buffer("probabilities", torch.zeros(n_genes, N_POINTS))
        if n_new:
            self.register_buffer("new_probabilities", self.probabilities.clone())
        self.register_buffer("correlation", torch.eye(n_states))
        self.register_buffer("fixed", torch.zeros(n_states, n_genes))
        self.register_buffer("loc", torch.zeros(n_levels, n_states, n_genes))
        self.register_buffer("sd", torch.zeros(n_levels, n_states, n_genes))
        # What the content's expression has of each level.
        self.register_buffer("content", torch.zeros(n_levels, n_states, n_genes))

    def set_model(self, model: MixedModel, content: np.ndarray) -> None:
        """Take over a fitted model, and what the content's expression has of each level."""
        for name, buffer in self.named_buffers():
            if name not in ("new_probabilities", "content"):
                buffer.copy_(torch.as_tensor(getattr(model, name)))
        self.content.copy_(torch.as_tensor(content))

    @property
    def new(self) -> slice:
        """Levels that were added."""
        return slice(self.n_fitted, None)

    def forget_new(self) -> None:
        """Put the effects of the new levels at 0."""
        self.loc[self.new] = 0.0
        self.content[self.new] = 0.0

    def learn_content(self, content: np.ndarray) -> None:
        """Take over what the content's expression has of the new levels."""
        self.content[self.new] = torch.as_tensor(content).to(self.content)

    def learn_new(self, sizes: np.ndarray, means: np.ndarray, guess: np.ndarray) -> None:
        """Find the effects of the new levels from their groups' sizes, means, and guess.

        The fixed effects stay as they are; each gene's probabilities are the prior of those for
        the new levels. What that hardly allows remains possible: genes may differ in new levels
        that did not before.
        """
        new = self.new
        self.sizes[new] = torch.as_tensor(sizes[new]).to(self.sizes)
        self.means[new] = torch.as_tensor(means[new]).to(self.means) / self.scale
        scaled = NETWORK_SHARE * torch.as_tensor(guess[new]).to(self.guess)
        self.guess[new] = scaled / self.scale
        *groups, correlation = self._data()
        size, y, of_network = (x[new] for x in groups)
        fixed = (self.fixed / self.scale).cpu().double()
        prior = self.probabilities.cpu().double().clamp_min(NEGLIGIBLE).log()
        prior[:, len(VARIANCES)] = -torch.inf  # as in the fit: no guess is exact
        equations = [MixedEquations(size, covariance) for covariance in covariances(correlation)]
        evidence = [
            model.log_likelihood(y - mean, fixed)
            for mean in (torch.zeros_like(of_network), of_network)
            for model in equations
        ]
        updated = torch.softmax(prior + torch.stack(evidence, 1), 1)
        loc = total = squares = torch.zeros(())
        for point, follows, weight in points(updated):
            mean = of_network if follows else torch.zeros_like(of_network)
            effects = equations[point].effects(y - mean, fixed)
            variance = equations[point].given_fixed.diagonal(dim1=1, dim2=2)[:, :, None]
            loc, total = loc + weight * effects, total + weight * (effects + mean)
            squares = squares + weight * ((effects + mean).square() + variance)
        self.new_probabilities.copy_(updated)
        self.loc[new] = self.scale * loc.to(self.scale)
        sd = (squares - total.square()).clamp_min(0).sqrt()
        self.sd[new] = self.scale * sd.to(self.scale)

    def _data(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sizes, means, guess and correlation, where matrices can be inverted in doubles."""
        kept = (self.sizes, self.means, self.guess, self.correlation)
        return tuple(x.cpu().double() for x in kept)  # type: ignore[return-value]

    @property
    def follows(self) -> Tensor:
        """Probability that a gene's effects vary around the network's guess, levels x genes."""
        half = slice(len(VARIANCES), None)
        known = self.probabilities[:, half].sum(1).expand(self.n_fitted, -1)
        if not self.n_new:
            return known
        added = self.new_probabilities[:, half].sum(1).expand(self.n_new, -1)
        return torch.cat([known, added])

    @property
    def ratios(self) -> Tensor:
        """Mean variances of both kinds of effects relative to that of the cells, 2 x genes."""
        variances = self.probabilities.new_tensor(VARIANCES)[:, :2].repeat(2, 1)
        return (self.probabilities @ variances).T

    def draw(self, generator: torch.Generator, n_unseen: int = 0) -> FactorDraw:
        """One draw of everything; levels that are not known, from the prior, follow the others."""
        sizes, means, guess, correlation = self._data()
        unseen = means.new_zeros(n_unseen, *means.shape[1:])
        sizes = torch.cat([sizes, unseen[:, :, 0]])
        means, guess = torch.cat([means, unseen]), torch.cat([guess, unseen])
        considered = covariances(correlation)
        fixed, effects = torch.empty_like(means[0]), torch.empty_like(means)
        follows = means.new_zeros(len(means), means.shape[2])
        for point, on_guess, genes in _drawn(self.probabilities, generator):
            equations = MixedEquations(sizes, considered[point], self.n_fitted)
            y = means[:, :, genes] - on_guess * guess[:, :, genes]
            fixed[:, genes] = equations.draw_fixed(y, generator)
            effects[:, :, genes] = equations.draw_effects(y, fixed[:, genes], generator)
            follows[:, genes] = float(on_guess)
        if self.n_new:
            new = slice(self.n_fitted, self.n_fitted + self.n_new)
            for point, on_guess, genes in _drawn(self.new_probabilities, generator):
                equations = MixedEquations(sizes[new], considered[point])
                y = means[new][:, :, genes] - on_guess * guess[new][:, :, genes]
                drawn = equations.draw_effects(y, fixed[:, genes], generator)
                effects[new][:, :, genes] = drawn
                follows[new][:, genes] = float(on_guess)
        to = self.scale
        return FactorDraw(follows.to(to), to * fixed.to(to), to * effects.to(to))

    def averages(
        self, weights: Tensor, of_network: Tensor, followed: Tensor | None = None
    ) -> Averages:
        """Posterior of the effects of the levels, averaged over states, by its exact moments.

        Parameters
        ----------
        weights
            Of the states, ``(n_states,)``; they sum to 1.
        of_network
            Effects that the network expects, averaged likewise, ``(n_levels, n_genes)``.
        followed
            Share of the guess that the effects have whatever their variances, ``(n_genes,)``, of
            a factor whose guess the batch's model has weighed.
        """
        sizes, means, guess, correlation = self._data()
        scaled = weights.cpu().double()[:, None] * self.scale.cpu().double()
        share = NETWORK_SHARE * of_network.cpu().double()
        always = torch.zeros(()) if followed is None else followed.cpu().double()
        considered = covariances(correlation)
        fixed_of_new = (self.fixed / self.scale).cpu().double()
        fitted = slice(0, self.n_fitted)
        total, squares, below, above = torch.zeros(4, *share.shape, dtype=torch.double)
        parts = [(self.probabilities, fitted)]
        parts += [(self.new_probabilities, self.new)] if self.n_new else []
        for probabilities, rows in parts:
            known = rows == fitted
            for point, follows, weight in points(probabilities.cpu().double()):
                if point == 0 and followed is None:
                    continue  # no effect
                equations = MixedEquations(sizes[rows], considered[point])
                y = means[rows] - guess[rows] if follows else means[rows]
                fixed = equations.fixed(y) if known else fixed_of_new
                effects = equations.effects(y, fixed)
                covariance = equations.covariance_of_effects if known else equations.given_fixed
                mean = (
                    torch.einsum("sg,ksg->kg", scaled, effects) + (follows + always) * share[rows]
                )
                variance = torch.einsum("sg,kst,tg->kg", scaled, covariance, scaled)
                tail = torch.special.ndtr(-mean / variance.clamp_min(1e-30).sqrt())
                total[rows] += weight * mean
                squares[rows] += weight * (mean.square() + variance)
                below[rows] += weight * tail
                above[rows] += weight * (1 - tail)
        sd = (squares - total.square()).clamp_min(0).sqrt()
        return Averages(total, sd, below, above)


def _drawn(
    probabilities: Tensor, generator: torch.Generator
) -> Iterator[tuple[int, bool, Tensor]]:
    """Draw a point for each gene: its variances, whether it follows the guess, its genes."""
    drawn = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0]
    n = len(VARIANCES)
    for point in drawn.unique().tolist():
        yield point % n, point >= n, torch.nonzero(drawn == point)[:, 0]
