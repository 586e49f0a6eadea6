"""Made-up cells of which everything is known, and methods that know it."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
from anndata import AnnData

from scmedal_tools import bm

BATCHES, TYPES = list("ABCD"), ["x", "y", "z"]


def draw(noise=0.5, n_genes=40, n_cells=24, effect_sd=0.5, interaction_sd=0.3, seed=0):
    """Cells of every batch and type, every other one for training, and their expectations."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        [(batch, label) for batch in BATCHES for label in TYPES for _ in range(n_cells)],
        columns=["donor", "type"],
    )
    obs.index = obs.index.astype(str)
    batch = effect_sd * rng.normal(size=(len(BATCHES), 1, n_genes))
    interaction = interaction_sd * rng.normal(size=(len(BATCHES), len(TYPES), n_genes))
    means = 5 + 2 * rng.normal(size=(len(TYPES), n_genes)) + batch + interaction
    means = dict(zip(((b, t) for b in BATCHES for t in TYPES), np.concatenate(means), strict=True))
    keys = list(obs.itertuples(index=False, name=None))
    expression = np.stack([means[key] for key in keys])
    expression = expression + noise * rng.normal(size=expression.shape)
    cells = np.arange(len(obs))
    return SimpleNamespace(
        adata=AnnData(expression, obs=obs),
        means=means,
        keys=keys,
        parts={"train": cells[::2], "test": cells[1::2]},
    )


class Method:
    """No model, though it knows its cells and has a method of models."""

    def __init__(self, function, train, test):
        self.function, self.train_indices, self.test_indices = function, train, test

    def __call__(self, cells, target):
        return self.function(cells, target)

    def get_counterfactual_expression(self):
        raise AssertionError("it is called itself")


def oracle(world, factor=1.0):
    """Counterfactual that adds a multiple of the true shift to the measured cells."""

    def predict(cells, target):
        own = [world.keys[cell] for cell in cells]
        shifts = [world.means[target, label] - world.means[batch, label] for batch, label in own]
        return world.adata.X[cells] + factor * np.stack(shifts)

    return predict


def expectation(world):
    """Counterfactual that knows the expectation but no cell."""
    return lambda cells, target: np.stack([world.means[target, world.keys[i][1]] for i in cells])


def measure(world, model, **kwargs):
    kwargs = world.parts | {"baselines": False, "progress": False} | kwargs
    return bm.counterfactual_shift(model, world.adata, "donor", "type", **kwargs)


def without_training(world, *pairs, keep=0):
    """Training cells without those of some combinations, but for the first ``keep``."""
    out = [
        i
        for pair in pairs
        for i in [i for i in world.parts["train"] if world.keys[i] == pair][keep:]
    ]
    return np.setdiff1d(world.parts["train"], out)


def by_combination(world, part):
    """Measured cells of a part, grouped by batch and type."""
    cells = world.adata[world.parts[part]]
    return cells.to_df().groupby([cells.obs["donor"].to_numpy(), cells.obs["type"].to_numpy()])


def scenarios(table):
    return set(zip(table["cell_type"], table["source"], table["target"], strict=True))


def everything():
    return {(label, *pair) for label in TYPES for pair in permutations(BATCHES, 2)}
