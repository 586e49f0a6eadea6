"""Effects of a batch on single genes: linear mixed models around the network."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from ._look_up import effects_of, look_up
from ._posterior import SPREAD, MixedEffects
from ._probability_of_following import NETWORK_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from ._fit import MixedModel
    from ._posterior import Averages


class GeneEffectsDraw(NamedTuple):
    """One posterior draw of :class:`~scmedal_tools._gene_model.GeneEffects`."""

    follows: Tensor
    """Whether each gene follows the network's guess, 0 or 1."""
    fixed: Tensor
    """Fixed effects of genes that do not, states x genes."""
    effects: list[Tensor]
    """Random effects of each factor, of genes that do not, levels x states x genes."""


class LevelFreePart(NamedTuple):
    """Part of the prediction of cells that does not depend on the levels."""

    state: Tensor
    """State of each cell."""
    values: Tensor
    """That part of the expression, cells x genes."""


class GeneEffects(nn.Module):
    r"""A mixed model of each gene, around what the network says.

    A cell of batch :math:`k` with content :math:`u` in state :math:`s` is expected to express in
    batch :math:`l`

    .. math::

        f_0(u) - h_{ks} + c_s + e_{ls}
        + z \big[\tfrac12 (f_l(u) - f_0(u)) + c'_s + e'_{ls}\big].

    The decoder gives :math:`f_l` and, with all its effects at their mean, 0, :math:`f_0`;
    :math:`h` is what :math:`f_0` still has of the cell's own batch, :math:`c` are fixed and
    :math:`e` random effects, and :math:`z` says whether a gene follows the network's guess, half
    of its effects, which changes the others by :math:`c'` and :math:`e'`. With several factors
    :math:`h`, :math:`e` and :math:`e'` add up. All is fitted once the network is trained
    (:func:`scmedal_tools.model._fit_gene_effects.fit_gene_effects`).

    Parameters
    ----------
    n_levels
        Numbers of levels of the factors, the batch first.
    n_genes, n_latent, n_states
        Numbers of genes, of dimensions of the content, and of states.
    n_new
        For each factor, the number of its last levels that were added to a trained network.
    """

    batch_centres: Tensor
    centres: Tensor
    content_of_states: Tensor
    follows: Tensor
    factors: Sequence[MixedEffects]

    def __init__(
        self,
        n_levels: Sequence[int],
        n_genes: int,
        n_latent: int,
        n_states: int,
        n_new: Sequence[int] | None = None,
    ):
        super().__init__()
        self.register_buffer("batch_centres", torch.zeros(n_levels[0], n_states, n_latent))
        self.register_buffer("centres", torch.zeros(n_states, n_latent))
        self.register_buffer("content_of_states", torch.zeros(n_states, n_genes))
        self.register_buffer("follows", torch.zeros(n_genes))
        self.factors = cast(  # a ModuleList does not say what it holds
            "Sequence[MixedEffects]",
            nn.ModuleList(
                MixedEffects(n, n_states, n_genes, new)
                for n, new in zip(n_levels, n_new or [0] * len(n_levels), strict=True)
            ),
        )

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.centres)

    def set_centres(self, centres: np.ndarray) -> None:
        """Take over centres of the states in each batch, then those over all batches.

        Fewer states than there is room for are repeated, and nothing falls into the copies.
        """
        found = torch.as_tensor(centres)
        found = found[:, torch.arange(self.n_states) % found.shape[1]].to(self.centres)
        self.batch_centres.copy_(found[:-1])
        self.centres.copy_(found[-1])

    def start_new_levels(self) -> None:
        """Give new batches the centres over all batches."""
        self.batch_centres[self.factors[0].new] = self.centres

    def set_models(
        self,
        alone: Sequence[MixedModel],
        following: Sequence[MixedModel],
        follows: np.ndarray,
        content: Sequence[np.ndarray],
        content_of_states: np.ndarray,
    ) -> None:
        """Take over the models of all factors, without and with the network's guess.

        Also the probability that a gene follows it, and what the content has of each level.
        """
        for effects, first, second, part in zip(
            self.factors, alone, following, content, strict=True
        ):
            effects.set_models(first, second, part)
        self.follows.copy_(torch.as_tensor(follows))
        self.content_of_states.copy_(torch.as_tensor(content_of_states))

    def state_of(self, content: Tensor, levels: Tensor) -> Tensor:
        """State of each cell, ``(n_cells,)``: the nearest centre of its own batch."""
        batch = levels[:, 0]
        known = ((batch >= 0) & (batch < len(self.batch_centres)))[:, None, None]
        own = self.batch_centres[batch.clamp(0, len(self.batch_centres) - 1)]
        centres = torch.where(known, own, self.centres)
        return (content[..., None, :] - centres).square().sum(-1).argmin(-1)

    def draw(
        self,
        generator: torch.Generator,
        n_unseen: Sequence[int] | None = None,
        spread: float = SPREAD,
    ) -> GeneEffectsDraw:
        """One draw of all effects, those of unseen levels (as many for each factor) follow.

        ``spread`` widens the posterior.
        """
        uniform = torch.rand(self.follows.shape, generator=generator).to(self.follows)
        n_unseen = n_unseen or [0] * len(self.factors)
        drawn = [f.draw(generator, n, spread) for f, n in zip(self.factors, n_unseen, strict=True)]
        follows = (uniform < self.follows).to(self.follows)
        return GeneEffectsDraw(follows, drawn[0][0], [effects for _, effects in drawn])

    def averages(self, factor: int, weights: Tensor, of_network: Tensor) -> Averages:
        """Posterior of the effects of a factor, averaged over states with some weights.

        ``of_network`` are the network's effects, averaged likewise, levels x genes.
        """
        guess = NETWORK_SHARE * of_network
        return self.factors[factor].averages(weights, guess, self.follows)

    def level_free_part(
        self,
        population: Tensor,
        state: Tensor,
        own: Tensor,
        genes: Tensor | None = None,
        draw: GeneEffectsDraw | None = None,
    ) -> LevelFreePart:
        """Part of the expression of cells that is the same under all levels.

        Parameters
        ----------
        population
            What the decoder makes of the cells without effects, of ``genes``.
        state
            State of each cell.
        own
            Levels that the cells have, ``(n_cells, n_factors)``.
        genes, draw
            See :meth:`forward`.
        """
        by_network = self._share_of_network(genes, draw or self._means)
        content = _sum_of_effects([f.content for f in self.factors], own, state, genes)
        return LevelFreePart(state, population * (1 - by_network) - content)

    def forward(
        self,
        network: Tensor,
        cells: LevelFreePart,
        levels: Tensor,
        genes: Tensor | None = None,
        draw: GeneEffectsDraw | None = None,
    ) -> Tensor:
        """Expression of cells, as it would be under some levels.

        Parameters
        ----------
        network
            What the decoder makes of the cells under the levels, of ``genes``.
        cells
            What :meth:`level_free_part` gives of them.
        levels
            Levels to predict under, ``(n_cells, n_factors)``, or one row for all cells; of several
            targets on further axes before these.
        genes
            Positions of the genes; ``None`` for all.
        draw
            Effects to use instead of their means.
        """
        draw = draw or self._means
        by_network = self._share_of_network(genes, draw)
        values = torch.addcmul(cells.values, by_network, network)
        if levels.shape[-2] > 1 or cells.state.ndim > 1:
            return values.add_(self._on_genes(levels, cells.state, genes, draw))
        # The same for all cells of a state.
        states = torch.arange(self.n_states, device=levels.device)
        on_states = self._on_genes(levels, states, genes, draw)
        return values.add_(on_states.index_select(-2, cells.state))

    @property
    def _means(self) -> GeneEffectsDraw:
        """Means of the effects, in place of a draw."""
        loc = [factor.loc for factor in self.factors]
        return GeneEffectsDraw(self.follows, self.factors[0].fixed, loc)

    def _share_of_network(self, genes: Tensor | None, draw: GeneEffectsDraw) -> Tensor:
        """Share that genes have of the network's effects."""
        return NETWORK_SHARE * look_up(draw.follows, units=genes)

    def _on_genes(
        self, levels: Tensor, state: Tensor, genes: Tensor | None, draw: GeneEffectsDraw
    ) -> Tensor:
        """Fixed and random effects in states and under levels, beside those of the network."""
        fixed, corrections = self.factors[0].fixed_correction, [f.correction for f in self.factors]
        alone, following = (
            look_up(of_states, state, units=genes) + _sum_of_effects(tables, levels, state, genes)
            for of_states, tables in ((draw.fixed, draw.effects), (fixed, corrections))
        )
        return torch.addcmul(alone, look_up(draw.follows, units=genes), following)


def _sum_of_effects(
    tables: Sequence[Tensor], levels: Tensor, state: Tensor, genes: Tensor | None
) -> Tensor:
    """Sum over the factors of what their levels do to cells in a state."""
    return reduce(
        add,
        (
            effects_of(table, level, state, units=genes)
            for table, level in zip(tables, levels.unbind(-1), strict=True)
        ),
    )
