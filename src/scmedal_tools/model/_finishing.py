"""Fitting the effects on single genes once the network is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.cluster import KMeans

from scmedal_tools.module._mixed_equations import likeness_of
from scmedal_tools.train._mixed_model import (
    GroupSums,
    fit_mixed_model,
    squared_errors,
    stacking_weight,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scmedal_tools.train._mixed_model import MixedModel

    from ._re import SCMEDAL_RE

CELLS_FOR_STATES = 5_000
MAX_DISPERSION = 10.0


@torch.inference_mode()
def fit_gene_effects(model: SCMEDAL_RE) -> None:
    """Fit the effects on genes to the training cells, beside the network's and without them.

    Two mixed models are fitted, to what the network leaves in a cell's own batch and to what it
    leaves in a batch without effects. Their weights in the average are those that predict the
    validation cells best: the network's effects have seen the training cells. Without validation
    cells it is the one with the network's effects.
    """
    gene_effects = model.module.gene_effects
    gene_effects.clear()
    _set_states(model)
    with_network, without = (_empty_sums(model) for _ in range(2))
    for x, own, population, batch, state in _parts(model, model.train_indices):
        with_network.add(x - own, batch, state)
        without.add(x - population, batch, state)
    likeness = likeness_of(model.module.decode_in_population(gene_effects.centres))
    with_network, without = (fit_mixed_model(sums, likeness) for sums in (with_network, without))

    quotient = np.zeros(2)
    for x, *parts in _parts(model, model.validation_indices):
        first, second = _predictions(*parts, without, with_network)
        quotient += stacking_weight(x, first, second)
    weight = float(np.clip(quotient[0] / quotient[1], 0, 1)) if quotient[1] else 1.0
    gene_effects.set_models(without, with_network, weight)
    gene_effects.dispersion.fill_(_dispersion(model, without, with_network, weight))


def _predictions(own, population, batch, state, without: MixedModel, with_network: MixedModel):
    """What each of the models expects of cells."""
    return (
        expression + fitted.common[state] + fitted.loc[batch, state]
        for expression, fitted in ((population, without), (own, with_network))
    )


def _dispersion(
    model: SCMEDAL_RE, without: MixedModel, with_network: MixedModel, weight: float
) -> float:
    """By how much the errors in validation cells exceed the variance that the draws would have.

    Of the means of groups, as shifts are differences of such; at least 1.
    """
    halves, differences = (_empty_sums(model), _empty_sums(model)), _empty_sums(model)
    for x, *parts in _parts(model, model.validation_indices):
        *_, batch, state = parts
        first, second = _predictions(*parts, without, with_network)
        errors = x - first - weight * (second - first)
        for i, half in enumerate(halves):
            half.add(errors[i::2], batch[i::2], state[i::2])
        differences.add(second - first, batch, state)
    squared, weights = squared_errors(halves)
    if not weights.any():
        return 1.0
    difference = differences.sums / np.maximum(differences.sizes, 1)[:, :, None]
    between = weight * (1 - weight) * np.square(difference)
    variance = np.square(without.sd)
    ratio = (weights * (squared - between)).sum() / np.maximum((weights * variance).sum(), 1e-12)
    return float(np.clip(ratio, 1, MAX_DISPERSION))


def _set_states(model: SCMEDAL_RE) -> None:
    rng = np.random.default_rng(0)
    cells = np.sort(rng.permutation(model.train_indices)[:CELLS_FOR_STATES])
    minibatches = model._minibatches(None, cells, None, None)
    content = torch.cat([model._infer(tensors)["content"].cpu() for tensors in minibatches])
    n_states = min(len(model.module.gene_effects.centres), len(content))
    states = KMeans(n_states, n_init=3, random_state=0).fit(content.numpy())
    model.module.gene_effects.set_centres(states.cluster_centers_)


def _empty_sums(model: SCMEDAL_RE) -> GroupSums:
    return GroupSums(*model.module.gene_effects.with_network.loc.shape)


def _parts(model: SCMEDAL_RE, cells) -> Iterator[tuple[np.ndarray, ...]]:
    """Scaled expression, network's expression in own batch and population, batch, and state."""
    if cells is None or not len(cells):
        return
    module = model.module
    for tensors in model._minibatches(None, cells, None, None):
        inference = model._infer(tensors)
        inputs = module._get_generative_input(tensors, inference)
        content = inference["content"]
        parts = (
            inference["x_scaled"],
            module.decode(inference["z"], inputs["batch_index"].to(content.device)),
            module.decode_in_population(content),
            inputs["batch_index"],
            module.gene_effects.state_of(content),
        )
        yield tuple(part.cpu().numpy() for part in parts)
