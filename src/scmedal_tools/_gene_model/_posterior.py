"""Posterior of the linear mixed models of all genes, for one factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from ._equations import VARIANCES, MixedEquations, covariance_of
from ._fit import NEGLIGIBLE, points

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from torch import Tensor

    from ._fit import MixedModel


# Standard deviations of what is drawn, of those of the posterior given its variances: what the
# network makes of the content is not exact either. See docs/design/random_effects.md.
SPREAD = 1.8


class Averages(NamedTuple):
    """Posterior of effects averaged over states, each of shape levels x genes."""

    mean: Tensor
    sd: Tensor
    negative: Tensor
    """Probability that the effect matters and is below 0."""
    positive: Tensor
    """Probability that it matters and is above."""


class MixedEffects(nn.Module):
    """Posterior of the effects of a factor's levels on genes, and on genes in a state.

    ``loc`` are the effects of genes that do not follow the network's guess; those that do have
    ``correction`` too, beside their share of the guess.

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
    probabilities: Tensor
    new_probabilities: Tensor
    correlation: Tensor
    fixed: Tensor
    loc: Tensor
    sd: Tensor
    correction: Tensor
    fixed_correction: Tensor
    content: Tensor

    def __init__(self, n_levels: int, n_states: int, n_genes: int, n_new: int = 0):
        super().__init__()
        self.n_fitted, self.n_new = n_levels - n_new, n_new
        of_levels, of_states = (n_levels, n_states, n_genes), (n_states, n_genes)
        self.register_buffer("sizes", torch.zeros(n_levels, n_states))
        self.register_buffer("scale", torch.zeros(of_states))
        self.register_buffer("means", torch.zeros(of_levels))
        self.register_buffer("probabilities", torch.zeros(n_genes, len(VARIANCES)))
        if n_new:
            self.register_buffer("new_probabilities", self.probabilities.clone())
        self.register_buffer("correlation", torch.eye(n_states))
        self.register_buffer("fixed", torch.zeros(of_states))
        self.register_buffer("loc", torch.zeros(of_levels))
        self.register_buffer("sd", torch.zeros(of_levels))
        self.register_buffer("correction", torch.zeros(of_levels))
        self.register_buffer("fixed_correction", torch.zeros(of_states))
        # What the content's expression has of each level.
        self.register_buffer("content", torch.zeros(of_levels))

    def set_models(self, alone: MixedModel, following: MixedModel, content: np.ndarray) -> None:
        """Take over the models without and with the guess, and what the content has of levels."""
        for name in ("sizes", "scale", "means", "probabilities", "correlation", "fixed", "loc"):
            self.get_buffer(name).copy_(torch.as_tensor(getattr(alone, name)))
        self.sd.copy_(torch.as_tensor(alone.sd))
        self.correction.copy_(torch.as_tensor(following.loc - alone.loc))
        self.fixed_correction.copy_(torch.as_tensor(following.fixed - alone.fixed))
        self.content.copy_(torch.as_tensor(content))

    @property
    def new(self) -> slice:
        """Levels that were added."""
        return slice(self.n_fitted, None)

    def forget_new(self) -> None:
        """Put the effects of the new levels at 0."""
        for table in (self.loc, self.correction, self.content):
            table[self.new] = 0.0

    def learn_content(self, content: np.ndarray) -> None:
        """Take over what the content's expression has of the new levels."""
        self.content[self.new] = torch.as_tensor(content).to(self.content)

    def learn_new(self, sizes: np.ndarray, means: np.ndarray, left: np.ndarray) -> None:
        """Find the effects of the new levels from their groups' sizes and means.

        The fixed effects stay as they are; each gene's probabilities of the variances are the
        prior of those for the new levels. What that hardly allows remains possible: genes may
        differ in new levels that did not before. ``left`` are the means without the guess.
        """
        new, scale = self.new, self.scale.cpu().double()
        self.sizes[new] = torch.as_tensor(sizes[new]).to(self.sizes)
        self.means[new] = torch.as_tensor(means[new]).to(self.means) / self.scale
        size, y, correlation = self._data()
        fixed, fixed_following = (
            (x / self.scale).cpu().double()
            for x in (self.fixed, self.fixed + self.fixed_correction)
        )
        prior = self.probabilities.cpu().double().clamp_min(NEGLIGIBLE).log()
        equations = [
            MixedEquations(size[new], covariance_of(point, correlation))
            for point in range(len(VARIANCES))
        ]
        evidence = [model.log_likelihood(y[new], fixed) for model in equations]
        updated = torch.softmax(prior + torch.stack(evidence, 1), 1)
        of_left = torch.as_tensor(left[new]).double() / scale
        loc = following = squares = torch.zeros(())
        for point, weight in points(updated):
            effects = equations[point].effects(y[new], fixed)
            variance = equations[point].given_fixed.diagonal(dim1=1, dim2=2)[:, :, None]
            loc = loc + weight * effects
            following = following + weight * equations[point].effects(of_left, fixed_following)
            squares = squares + weight * (effects.square() + variance)
        self.new_probabilities.copy_(updated)
        self.loc[new] = (scale * loc).to(self.loc)
        self.correction[new] = (scale * (following - loc)).to(self.loc)
        sd = (squares - loc.square()).clamp_min(0).sqrt()
        self.sd[new] = (scale * sd).to(self.sd)

    def _data(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sizes, means and correlation, where matrices can be inverted in doubles."""
        kept = (self.sizes, self.means, self.correlation)
        return tuple(x.cpu().double() for x in kept)  # type: ignore[return-value]

    @property
    def ratios(self) -> Tensor:
        """Mean variances of both kinds of effects relative to that of the cells, 2 x genes."""
        return (self.probabilities @ self.probabilities.new_tensor(VARIANCES)[:, :2]).T

    def draw(
        self, generator: torch.Generator, n_unseen: int = 0, spread: float = SPREAD
    ) -> tuple[Tensor, Tensor]:
        """One draw of fixed and random effects, states x genes and levels x states x genes.

        Effects of levels that are not known, drawn from the prior, follow those of the others.
        """
        sizes, means, correlation = self._data()
        unseen = means.new_zeros(n_unseen, *means.shape[1:])
        sizes, means = torch.cat([sizes, unseen[:, :, 0]]), torch.cat([means, unseen])
        fixed, effects = torch.empty_like(means[0]), torch.empty_like(means)
        for point, genes in _drawn(self.probabilities, generator):
            covariance = covariance_of(point, correlation)
            equations = MixedEquations(sizes, covariance, self.n_fitted)
            y = means[:, :, genes]
            fixed[:, genes] = equations.draw_fixed(y, generator, spread)
            effects[:, :, genes] = equations.draw_effects(y, fixed[:, genes], generator, spread)
        if self.n_new:
            new = slice(self.n_fitted, self.n_fitted + self.n_new)
            for point, genes in _drawn(self.new_probabilities, generator):
                equations = MixedEquations(sizes[new], covariance_of(point, correlation))
                # Given the same fixed effects, from which all are counted.
                effects[new][:, :, genes] = equations.draw_effects(
                    means[new][:, :, genes], fixed[:, genes], generator, spread
                )
        return self.scale * fixed.to(self.scale), self.scale * effects.to(self.scale)

    def averages(self, weights: Tensor, guess: Tensor, follows: Tensor) -> Averages:
        """Posterior of the effects of the levels, averaged over states, by its exact moments.

        Parameters
        ----------
        weights
            Of the states, ``(n_states,)``; they sum to 1.
        guess
            What genes that follow it have of the network's effects, averaged likewise,
            ``(n_levels, n_genes)``.
        follows
            Probability of each gene that it does, ``(n_genes,)``.
        """
        sizes, means, correlation = self._data()
        shares, follows = weights.cpu().double(), follows.cpu().double()
        scaled = shares[:, None] * self.scale.cpu().double()
        beyond = torch.einsum("s,ksg->kg", shares, self.correction.cpu().double())
        beyond = beyond + guess.cpu().double()
        of_new = (self.fixed / self.scale).cpu().double()
        total, squares, below, above = torch.zeros(4, *beyond.shape, dtype=torch.double)
        parts: list[tuple[Tensor, slice, Tensor | None]]
        parts = [(self.probabilities, slice(0, self.n_fitted), None)]
        parts += [(self.new_probabilities, self.new, of_new)] if self.n_new else []
        for probabilities, rows, known in parts:
            for point, of_point in points(probabilities.cpu().double()):
                equations = MixedEquations(sizes[rows], covariance_of(point, correlation))
                y = means[rows]
                effects = equations.effects(y, equations.fixed(y) if known is None else known)
                covariance = (
                    equations.covariance_of_effects if known is None else equations.given_fixed
                )
                mean = torch.einsum("sg,ksg->kg", scaled, effects)
                variance = SPREAD**2 * torch.einsum("sg,kst,tg->kg", scaled, covariance, scaled)
                for weight, centre, matters in (
                    (of_point * (1 - follows), mean, point > 0),
                    (of_point * follows, mean + beyond[rows], True),
                ):
                    total[rows] += weight * centre
                    squares[rows] += weight * (centre.square() + variance)
                    if matters:
                        negative = torch.special.ndtr(-centre / variance.sqrt())
                        below[rows] += weight * negative
                        above[rows] += weight * (1 - negative)
        sd = (squares - total.square()).clamp_min(0).sqrt()
        return Averages(total, sd, below, above)


def _drawn(probabilities: Tensor, generator: torch.Generator) -> Iterator[tuple[int, Tensor]]:
    """Draw variances for each gene; those drawn, and the genes that have them."""
    drawn = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0]
    for point in drawn.unique().tolist():
        yield point, torch.nonzero(drawn == point)[:, 0]
