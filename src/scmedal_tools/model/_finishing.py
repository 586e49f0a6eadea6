"""Fitting the effects on single genes once the network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from sklearn.cluster import KMeans

from scmedal_tools.module._levels import levels_of
from scmedal_tools.module._mixed_equations import likeness_of
from scmedal_tools.train._mixed_model import (
    GroupSums,
    fit_crossed_models,
    rounds,
    squared_errors,
    stacking_weight,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scmedal_tools.train._mixed_model import MixedModel

    from ._re import SCMEDAL_RE

CELLS_FOR_STATES = 5_000
MAX_DISPERSION = 10.0


class Parts(NamedTuple):
    """What the network says of some cells; expression is scaled, cells x genes."""

    x: np.ndarray
    own: np.ndarray
    """Expression in the own batch."""
    population: np.ndarray
    """Expression in a batch without effects."""
    group: np.ndarray
    """Row of the levels that the cell has."""
    state: np.ndarray


class Groups:
    """Combinations of levels that cells have.

    Attributes
    ----------
    levels
        Level of each combination and factor, ``(n_combinations, n_factors)``.
    """

    def __init__(self, model: SCMEDAL_RE):
        registered = model.adata_manager.get_from_registry
        levels = [registered(REGISTRY_KEYS.BATCH_KEY).reshape(-1)]
        if REGISTRY_KEYS.CAT_COVS_KEY in model.adata_manager.data_registry:
            levels += list(registered(REGISTRY_KEYS.CAT_COVS_KEY).to_numpy().T)
        self._n_levels = model.module.n_levels
        self._codes = np.unique(self._code(np.stack(levels, axis=1).astype(np.int64)))
        self.levels = np.stack(np.unravel_index(self._codes, self._n_levels, order="F"), axis=1)
        self._model = model

    def _code(self, levels: np.ndarray) -> np.ndarray:
        """Number of each combination of levels."""
        return np.ravel_multi_index(tuple(levels.T), self._n_levels, order="F")

    def empty_sums(self) -> GroupSums:
        """Sums over the cells of each combination and state, none yet."""
        effects = self._model.module.gene_effects
        return GroupSums(len(self.levels), len(effects.centres), self._model.summary_stats.n_vars)

    @torch.inference_mode()
    def parts(self, cells: np.ndarray | None) -> Iterator[Parts]:
        """What the network says, minibatch by minibatch."""
        if cells is None or not len(cells):
            return
        model, module = self._model, self._model.module
        for tensors in model._minibatches(None, cells, None, None):
            inference = model._infer(tensors)
            levels = levels_of(tensors)
            content = inference["content"]
            parts = (
                inference["x_scaled"],
                module.decode(inference["z"], levels.to(content.device)),
                module.decode_in_population(content),
                module.gene_effects.state_of(content),
            )
            x, own, population, state = (part.cpu().numpy() for part in parts)
            group = np.searchsorted(self._codes, self._code(levels.cpu().numpy()))
            yield Parts(x, own, population, group, state)


@torch.inference_mode()
def fit_gene_effects(model: SCMEDAL_RE) -> None:
    """Fit the effects on genes to the training cells, beside the network's and without them.

    Two mixed models are fitted, to what the network leaves in a cell's own batch and to what it
    leaves in a batch without effects. Their weights in the average are those that predict the
    validation cells best: the network's effects have seen the training cells. Without validation
    cells it is the one with the network's effects.
    """
    module, gene_effects = model.module, model.module.gene_effects
    gene_effects.clear()
    _set_states(model)
    groups = Groups(model)
    with_network, without = groups.empty_sums(), groups.empty_sums()
    for parts in groups.parts(model.train_indices):
        with_network.add(parts.x - parts.own, parts.group, parts.state)
        without.add(parts.x - parts.population, parts.group, parts.state)
    likeness = likeness_of(module.decode_in_population(gene_effects.centres))
    of_network, alone = (
        fit_crossed_models(sums, groups.levels, module.n_levels, likeness)
        for sums in (with_network, without)
    )
    predict = _Predictions(groups.levels, alone, of_network)
    quotient = np.zeros(2)
    for parts in groups.parts(model.validation_indices):
        quotient += stacking_weight(parts.x, *predict(parts))
    weight = float(np.clip(quotient[0] / quotient[1], 0, 1)) if quotient[1] else 1.0
    dispersion = _dispersion(groups, model.validation_indices, predict, weight)
    gene_effects.set_models(alone, of_network, weight, dispersion)


@torch.inference_mode()
def learn_new_effects(model: SCMEDAL_RE) -> None:
    """Find the effects on genes of levels that were added; all that was fitted before stays."""
    groups, effects = Groups(model), model.module.gene_effects
    sums = [groups.empty_sums(), groups.empty_sums()]
    for parts in groups.parts(model.train_indices):
        for of_model, expression in zip(sums, (parts.population, parts.own), strict=True):
            of_model.add(parts.x - expression, parts.group, parts.state)
    for of_model, factors in zip(
        sums, (effects.without_network, effects.with_network), strict=True
    ):
        for of_factor in factors:
            of_factor.forget_new()
        for factor in rounds(model.module.n_levels):
            if not factors[factor].n_new:
                continue
            others = sum(
                other.loc.cpu().numpy()[groups.levels[:, i]]
                for i, other in enumerate(factors)
                if i != factor
            )
            left = of_model.without(others).over(
                groups.levels[:, factor], model.module.n_levels[factor]
            )
            means = left.sums / np.maximum(left.sizes, 1)[:, :, None]
            factors[factor].learn_new(left.sizes, means)


class _Predictions:
    """What each of the two models expects of cells."""

    def __init__(
        self, levels: np.ndarray, without: list[MixedModel], with_network: list[MixedModel]
    ):
        self.added = [
            models[0].common + sum(m.loc[of] for m, of in zip(models, levels.T, strict=True))
            for models in (without, with_network)
        ]
        self.variance = sum(
            np.square(m.sd_of_sum[of]) for m, of in zip(without, levels.T, strict=True)
        )

    def __call__(self, parts: Parts) -> list[np.ndarray]:
        return [
            expression + added[parts.group, parts.state]
            for expression, added in zip((parts.population, parts.own), self.added, strict=True)
        ]


def _dispersion(
    groups: Groups, cells: np.ndarray | None, predict: _Predictions, weight: float
) -> float:
    """By how much the errors in validation cells exceed the variance that the draws would have.

    Of the means of groups, as shifts are differences of such; at least 1.
    """
    halves, differences = (groups.empty_sums(), groups.empty_sums()), groups.empty_sums()
    for parts in groups.parts(cells):
        first, second = predict(parts)
        errors = parts.x - first - weight * (second - first)
        for i, half in enumerate(halves):
            half.add(errors[i::2], parts.group[i::2], parts.state[i::2])
        differences.add(second - first, parts.group, parts.state)
    squared, weights = squared_errors(halves)
    if not weights.any():
        return 1.0
    difference = differences.sums / np.maximum(differences.sizes, 1)[:, :, None]
    between = weight * (1 - weight) * np.square(difference)
    explained = (weights * predict.variance).sum()
    ratio = (weights * (squared - between)).sum() / np.maximum(explained, 1e-12)
    return float(np.clip(ratio, 1, MAX_DISPERSION))


def _set_states(model: SCMEDAL_RE) -> None:
    rng = np.random.default_rng(0)
    cells = np.sort(rng.permutation(model.train_indices)[:CELLS_FOR_STATES])
    minibatches = model._minibatches(None, cells, None, None)
    content = torch.cat([model._infer(tensors)["content"].cpu() for tensors in minibatches])
    n_states = min(len(model.module.gene_effects.centres), len(content))
    states = KMeans(n_states, n_init=3, random_state=0).fit(content.numpy())
    model.module.gene_effects.set_centres(states.cluster_centers_)
