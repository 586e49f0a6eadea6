"""Fitting the effects on single genes once the network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scvi import REGISTRY_KEYS

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
    from collections.abc import Iterator

    from scmedal_tools._gene_model import GeneEffects

    from ._base import MedalModel

CELLS_FOR_STATES = 10_000
# How much of what batches differ by within a state counts as their effect, not as composition.
SHARE_IN_FOUND_STATES = 0.3
SHARE_IN_GIVEN_STATES = 1.0


class Sums(NamedTuple):
    """Sums over combinations of levels and states; expression is scaled."""

    residual: GroupSums
    """Of what the network misses in a batch without effects."""
    content: GroupSums
    """Of what the network makes of the content in a batch without effects."""
    guess: GroupSums
    """Of what the network's effects add in the cells' own batches."""
    noisy: GroupSums
    """Of expression without what of the content is not an effect of the batch."""


class Combinations:
    """Combinations of levels that the cells of a model have.

    Attributes
    ----------
    levels
        Level of each combination and factor, ``(n_combinations, n_factors)``.
    of_cells
        Number of the combination that each cell has.
    """

    def __init__(self, model: MedalModel):
        registered = model.adata_manager.get_from_registry
        levels = [registered(REGISTRY_KEYS.BATCH_KEY).reshape(-1)]
        if REGISTRY_KEYS.CAT_COVS_KEY in model.adata_manager.data_registry:
            levels += list(registered(REGISTRY_KEYS.CAT_COVS_KEY).to_numpy().T)
        self.levels, self.of_cells = np.unique(
            np.stack(levels, axis=1).astype(np.int64), axis=0, return_inverse=True
        )


@torch.inference_mode()
def fit_gene_effects(model: MedalModel) -> None:
    """Fit the effects on genes to the training cells, around what the network says of them."""
    module, effects = model.module, model.module.gene_effects
    combinations = Combinations(model)
    if not model.has_given_states:
        effects.set_centres(_centres(model, combinations))
    sums = _sums(model, combinations, model._training_cells())
    cells = sums.content.sizes.sum(0)[:, None]
    with np.errstate(invalid="ignore"):  # states without cells
        profiles = (sums.content.sums + sums.residual.sums).sum(0) / cells
    of_states, content = batch_share_of_content(
        sums.content, combinations.levels, module.n_levels, _share(model)
    )
    of_batch = _total(content, combinations)
    explained = sums.residual.without(-of_batch)
    left = explained.without(NETWORK_SHARE * sums.guess.means)
    correlation = state_correlation(torch.from_numpy(profiles))
    scale = np.sqrt(sums.noisy.noise())
    alone, following = (
        fit_crossed_models(groups, combinations.levels, module.n_levels, correlation, scale)
        for groups in (explained, left)
    )
    held_back = _sums(model, combinations, _validation_cells(model))
    follows = probability_of_following(
        alone,
        following,
        combinations.levels,
        held_back.residual.without(-of_batch),
        held_back.guess,
    )
    effects.set_models(alone, following, follows, content, of_states)


@torch.inference_mode()
def learn_new_effects(model: MedalModel) -> None:
    """Find the effects on genes of levels that were added; all that was fitted before stays."""
    combinations, effects = Combinations(model), model.module.gene_effects
    factors, n_levels, levels = effects.factors, model.module.n_levels, combinations.levels
    of_states = effects.content_of_states.cpu().numpy()
    sums = _sums(model, combinations, model._training_cells())
    for factor in factors:
        factor.forget_new()
    for i in backfitting_order(n_levels):
        if factors[i].n_new:
            left = sums.content.without(_others(effects, "content", combinations, i))
            new = left.over(levels[:, i], n_levels[i]).last(factors[i].n_new)
            factors[i].learn_content(share_of_new(new, of_states, _share(model)))
    content = [factor.content.cpu().numpy() for factor in factors]
    explained = sums.residual.without(-_total(content, combinations))
    for i in backfitting_order(n_levels):
        if factors[i].n_new:
            others = _others(effects, "loc", combinations, i)
            corrected = others + _others(effects, "correction", combinations, i)
            guess = NETWORK_SHARE * sums.guess.means
            alone, left = (
                explained.without(effect).over(levels[:, i], n_levels[i])
                for effect in (others, corrected + guess)
            )
            factors[i].learn_new(alone.sizes, alone.means, left.means)


def _share(model: MedalModel) -> float:
    return SHARE_IN_GIVEN_STATES if model.has_given_states else SHARE_IN_FOUND_STATES


def _sums(model: MedalModel, combinations: Combinations, cells: np.ndarray) -> Sums:
    """Read the cells once, minibatch by minibatch."""
    module, shape = model.module, (len(combinations.levels), model.module.gene_effects.n_states)
    n_genes = model.summary_stats.n_vars
    sums = Sums(*(GroupSums(*shape, n_genes, squared=name == "noisy") for name in Sums._fields))
    for rows, tensors in _with_positions(model, cells):
        inference, own = model._infer(tensors), levels_of(tensors).to(module.device)
        network = module.decode(inference["z"], own)
        population = module.decode_in_population(inference["content"])
        state = model._state_of(tensors, inference["content"])
        group = combinations.of_cells[rows], state.cpu().numpy()
        x = inference["x_scaled"]
        noisy = x - (1 - _share(model)) * population
        parts = (x - population, population, network - population, noisy)
        for total, values in zip(sums, parts, strict=True):
            total.add(values.cpu().numpy(), *group)
    return sums


def _validation_cells(model: MedalModel) -> np.ndarray:
    cells = model.validation_indices
    return np.empty(0, dtype=int) if cells is None else cells


def _centres(model: MedalModel, combinations: Combinations) -> np.ndarray:
    """Centres of states of the content of some training cells."""
    rng = np.random.default_rng(0)
    cells = np.sort(rng.permutation(model._training_cells())[:CELLS_FOR_STATES])
    minibatches = model._own_minibatches(cells)
    content = torch.cat([model._infer(tensors)["content"].cpu() for tensors in minibatches])
    levels = combinations.levels[combinations.of_cells[cells]]
    n_states = model.module.gene_effects.n_states
    return find_states(content.numpy(), levels, model.module.n_batch, n_states)


def _with_positions(model: MedalModel, cells: np.ndarray) -> Iterator[tuple[np.ndarray, dict]]:
    """Minibatches of cells, with the cells' positions."""
    cells = np.sort(cells)
    if not len(cells):
        return
    start = 0
    for tensors in model._own_minibatches(cells):
        stop = start + len(tensors[REGISTRY_KEYS.X_KEY])
        yield cells[start:stop], tensors
        start = stop


def _total(tables: list[np.ndarray], combinations: Combinations) -> np.ndarray:
    """Sum over the factors, combinations x states x genes."""
    return sum(table[level] for table, level in zip(tables, combinations.levels.T, strict=True))


def _others(
    effects: GeneEffects, name: str, combinations: Combinations, factor: int
) -> np.ndarray | float:
    """Sum of a table of the other factors, combinations x states x genes."""
    return sum(
        getattr(other, name).cpu().numpy()[combinations.levels[:, i]]
        for i, other in enumerate(effects.factors)
        if i != factor
    )
