"""Fitting the effects on single genes once the network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from scmedal_tools._gene_model import (
    NETWORK_SHARE,
    GroupSums,
    backfitting_order,
    batch_share_of_content,
    find_states,
    fit_crossed_models,
    probability_of_following,
    share_of_new,
    state_correlation,
)
from scmedal_tools.module import levels_of

if TYPE_CHECKING:
    from scmedal_tools._gene_model import GeneEffects

    from ._base import MedalModel
    from ._inference import Minibatches

CELLS_FOR_STATES = 10_000
# How much of what batches differ by within a state counts as their effect, not as composition.
SHARE_IN_FOUND_STATES = 0.3
SHARE_IN_GIVEN_STATES = 1.0


class Sums(NamedTuple):
    """Sums over combinations of levels and states; expression is scaled."""

    levels: np.ndarray
    """Level of each combination and factor, ``(n_combinations, n_factors)``."""
    residual: GroupSums
    """Of what the network misses in a batch without effects."""
    content: GroupSums
    """Of what the network makes of the content in a batch without effects."""
    guess: GroupSums
    """Of what the network's effects add in the cells' own batches."""
    noisy: GroupSums
    """Of expression without what of the content is not an effect of the batch."""


@torch.inference_mode()
def fit_gene_effects(model: MedalModel) -> None:
    """Fit the effects on genes to the training cells, around what the network says of them."""
    module, effects = model.module, model.module.gene_effects
    if not model.has_given_states:
        effects.set_centres(_centres(model))
    sums = _sums(model, model._training_minibatches())
    cells = sums.content.sizes.sum(0)[:, None]
    with np.errstate(invalid="ignore"):  # states without cells
        profiles = (sums.content.sums + sums.residual.sums).sum(0) / cells
    of_states, content = batch_share_of_content(
        sums.content, sums.levels, module.n_levels, _share(model)
    )
    explained = sums.residual.without(-_total(content, sums.levels))
    left = explained.without(NETWORK_SHARE * sums.guess.means)
    correlation = state_correlation(torch.from_numpy(profiles))
    scale = np.sqrt(sums.noisy.noise())
    alone, following = (
        fit_crossed_models(groups, sums.levels, module.n_levels, correlation, scale)
        for groups in (explained, left)
    )
    held_back = _sums(model, model._validation_minibatches())
    follows = probability_of_following(
        alone,
        following,
        held_back.levels,
        held_back.residual.without(-_total(content, held_back.levels)),
        held_back.guess,
    )
    effects.set_models(alone, following, follows, content, of_states)


@torch.inference_mode()
def learn_new_effects(model: MedalModel) -> None:
    """Find the effects on genes of levels that were added; all that was fitted before stays."""
    effects, n_levels = model.module.gene_effects, model.module.n_levels
    factors, of_states = effects.factors, effects.content_of_states.cpu().numpy()
    sums = _sums(model, model._training_minibatches())
    levels = sums.levels
    for factor in factors:
        factor.forget_new()
    for i in backfitting_order(n_levels):
        if factors[i].n_new:
            left = sums.content.without(_others(effects, "content", levels, i))
            new = left.over(levels[:, i], n_levels[i]).last(factors[i].n_new)
            factors[i].learn_content(share_of_new(new, of_states, _share(model)))
    content = [factor.content.cpu().numpy() for factor in factors]
    explained = sums.residual.without(-_total(content, levels))
    for i in backfitting_order(n_levels):
        if factors[i].n_new:
            others = _others(effects, "loc", levels, i)
            corrected = others + _others(effects, "correction", levels, i)
            guess = NETWORK_SHARE * sums.guess.means
            alone, left = (
                explained.without(effect).over(levels[:, i], n_levels[i])
                for effect in (others, corrected + guess)
            )
            factors[i].learn_new(alone.sizes, alone.means, left.means)


def _share(model: MedalModel) -> float:
    return SHARE_IN_GIVEN_STATES if model.has_given_states else SHARE_IN_FOUND_STATES


def _sums(model: MedalModel, minibatches: Minibatches) -> Sums:
    """Read the cells once; combinations of levels are numbered as they are met."""
    module, n_genes = model.module, model.summary_stats.n_vars
    numbers: dict[tuple[int, ...], int] = {}
    residual, content, guess, noisy = sums = [
        GroupSums(0, module.gene_effects.n_states, n_genes, squared=squared)
        for squared in (False, False, False, True)
    ]
    for tensors in minibatches:
        inference, own = model._infer(tensors), levels_of(tensors).to(module.device)
        network = module.decode(inference["z"], own)
        population = module.decode_in_population(inference["content"])
        state = model._state_of(tensors, inference["content"])
        group = _numbered(own.cpu().numpy(), numbers), state.cpu().numpy()
        x = inference["x_scaled"]
        noise = x - (1 - _share(model)) * population
        parts = (x - population, population, network - population, noise)
        for total, values in zip(sums, parts, strict=True):
            total.add(values.cpu().numpy(), *group)
    levels = np.array(list(numbers), dtype=np.int64).reshape(-1, len(module.n_levels))
    return Sums(levels, residual, content, guess, noisy)


def _numbered(levels: np.ndarray, numbers: dict[tuple[int, ...], int]) -> np.ndarray:
    """Number of each cell's combination of levels; new ones follow those that have a number."""
    distinct, which = np.unique(levels, axis=0, return_inverse=True)
    found = [numbers.setdefault(tuple(row), len(numbers)) for row in distinct.tolist()]
    return np.array(found)[which]


def _centres(model: MedalModel) -> np.ndarray:
    """Centres of states of the content of some training cells."""
    content, levels = [], []
    for tensors in model._training_minibatches(CELLS_FOR_STATES):
        content.append(model._infer(tensors)["content"].cpu().numpy())
        levels.append(levels_of(tensors).cpu().numpy())
    return find_states(
        np.concatenate(content),
        np.concatenate(levels),
        model.module.n_batch,
        model.module.gene_effects.n_states,
    )


def _total(tables: list[np.ndarray], levels: np.ndarray) -> np.ndarray:
    """Sum over the factors, combinations x states x genes."""
    return sum(table[level] for table, level in zip(tables, levels.T, strict=True))


def _others(
    effects: GeneEffects, name: str, levels: np.ndarray, factor: int
) -> np.ndarray | float:
    """Sum of a table of the other factors, combinations x states x genes."""
    return sum(
        getattr(other, name).cpu().numpy()[levels[:, i]]
        for i, other in enumerate(effects.factors)
        if i != factor
    )
