"""Simple statistical baselines: effects of batches on groups, added to the cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from scmedal_tools._data import dense
from scmedal_tools._gene_model import (
    GroupSums,
    fit_mixed_model,
    harmony_clusters,
    state_correlation,
)

N_CLUSTERS = 20


class Counterfactual(Protocol):
    """Anything that says what cells would express in a batch."""

    def __call__(self, cells: np.ndarray, target: str) -> np.ndarray:
        """Expression ``(n_cells, n_genes)`` of these cells, as if they came from ``target``."""


class Effects(NamedTuple):
    """Effects of every batch on every group, of which differences between batches are used."""

    values: np.ndarray
    """Batches x groups x genes."""
    batch_names: list[str]
    group_names: list[str]

    def shift(self, source: str, target: str, cell_type: str) -> np.ndarray:
        """Difference of two batches' effects on a group of cells, of each gene."""
        of_group = self.values[:, self.group_names.index(cell_type)]
        one, other = (of_group[self.batch_names.index(name)] for name in (source, target))
        return other - one


@dataclass(frozen=True)
class AddedEffects:
    """Counterfactual that takes the effect of a cell's batch off and puts the target's on.

    Parameters
    ----------
    expression
        Cells x genes.
    batches, groups
        Batch and group of each cell.
    values, batch_names, group_names
        See :class:`Effects`.
    """

    expression: np.ndarray
    batches: np.ndarray
    groups: np.ndarray
    values: np.ndarray
    batch_names: list[str]
    group_names: list[str]

    def __call__(self, cells: np.ndarray, target: str) -> np.ndarray:
        """Expression of the cells with the target's effects instead of their own."""
        batch, group = (
            pd.Series(range(len(names)), index=names)
            for names in (self.batch_names, self.group_names)
        )
        own, of_group = batch[self.batches[cells]].to_numpy(), group[self.groups[cells]].to_numpy()
        moved = self.expression[cells].astype(float)
        for source in np.unique(own):
            rows = own == source
            moved[rows] += self.shifts(source, batch[target])[of_group[rows]]
        return moved

    def shifts(self, source: int, target: int) -> np.ndarray:
        """Shift of every group between two batches, groups x genes."""
        return self.values[target] - self.values[source]


class MeanOfOtherContexts(AddedEffects):
    """Counterfactual that adds the mean shift of the other groups; its values are means.

    Groups count equally, if they have cells in both batches; NaN marks groups without. Where
    no group is left, nothing is added.
    """

    def shifts(self, source: int, target: int) -> np.ndarray:
        """Mean, for every group, of the shifts of all others, groups x genes."""
        shifts = super().shifts(source, target)
        known = ~np.isnan(shifts).any(1, keepdims=True)
        shifts = np.where(known, shifts, 0.0)
        return (shifts.sum(0) - shifts) / np.maximum(known.sum() - known, 1)


def baselines(
    expression: Any, batches: np.ndarray, labels: np.ndarray, train: np.ndarray
) -> dict[str, Counterfactual]:
    """Fit all baselines to the training cells of log-normalised cells x genes.

    *Additive*: mean(B) - mean(A). *Mean of other contexts*: the mean, over the other types with
    cells in A and B, of mean(B) - mean(A). *Least squares* on batch + type. *Mixed model*:
    ``type + (1 | batch) + (0 + type | batch)`` of each gene. The last two are given the cell
    types, or clusters of a Harmony space instead.
    """
    expression = dense(expression)
    cells = expression[train], batches[train]
    clusters = np.full(len(labels), "", dtype=object)
    clusters[train] = _harmony_clusters(*cells).astype(str)
    groupings = {"given cell types": labels, "Harmony clusters": clusters}
    of_types, known = (expression, batches, labels), (*cells, labels[train])
    methods: dict[str, Counterfactual] = {
        "additive": AddedEffects(*of_types, *additive(*known)),
        "mean of other contexts": MeanOfOtherContexts(*of_types, *observed_means(*known)),
    }
    for name, groups in groupings.items():
        for method, fit in (("least squares", least_squares), ("mixed model", mixed_model)):
            effects = fit(*cells, groups[train])
            methods[f"{method} ({name})"] = AddedEffects(expression, batches, groups, *effects)
    return methods


def additive(expression: np.ndarray, batches: np.ndarray, groups: np.ndarray) -> Effects:
    """Mean of every batch, whatever its cells are."""
    by_group, *names = _group_sums(expression, batches, groups)
    means = by_group.sums.sum(1) / by_group.sizes.sum(1)[:, None]
    return Effects(np.broadcast_to(means[:, None], by_group.sums.shape), *names)


def observed_means(expression: np.ndarray, batches: np.ndarray, groups: np.ndarray) -> Effects:
    """Mean of every batch and group, NaN where there is no cell."""
    by_group, *names = _group_sums(expression, batches, groups)
    sizes = np.where(by_group.sizes > 0, by_group.sizes, np.nan)[:, :, None]
    return Effects(by_group.sums / sizes, *names)


def least_squares(expression: np.ndarray, batches: np.ndarray, groups: np.ndarray) -> Effects:
    """Effects of the batches in a least-squares fit on batch + group."""
    by_group, *names = _group_sums(expression, batches, groups)
    sizes = by_group.sizes
    normal = np.block([[np.diag(sizes.sum(1)), sizes], [sizes.T, np.diag(sizes.sum(0))]])
    moments = np.vstack([by_group.sums.sum(1), by_group.sums.sum(0)])
    # The indicators are collinear; of the effects only differences are used.
    of_batch = (np.linalg.pinv(normal) @ moments)[: len(sizes)]
    return Effects(np.broadcast_to(of_batch[:, None], by_group.sums.shape), *names)


def mixed_model(expression: np.ndarray, batches: np.ndarray, groups: np.ndarray) -> Effects:
    """Posterior means of ``group + (1 | batch) + (0 + group | batch)`` in a model of each gene.

    It is the model that :class:`~scmedal_tools.model.SCMEDAL_RE` has inside, without its network.
    """
    by_group, *names = _group_sums(expression, batches, groups)
    profiles = by_group.sums.sum(0) / by_group.sizes.sum(0)[:, None]
    correlation = state_correlation(torch.from_numpy(profiles))
    return Effects(fit_mixed_model(by_group, correlation).loc, *names)


def _harmony_clusters(expression: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Clusters of cells in Harmony's space of their principal components."""
    components = PCA(min(30, *expression.shape), random_state=0).fit_transform(expression)
    levels = pd.Categorical(batches).codes[:, None]
    return harmony_clusters(components, levels, N_CLUSTERS)


def _group_sums(
    expression: np.ndarray, batches: np.ndarray, groups: np.ndarray
) -> tuple[GroupSums, list[str], list[str]]:
    """Sums over the cells of every batch and group, and the names of both."""
    batch, group = (pd.Categorical(values) for values in (batches, groups))
    by_group = GroupSums(len(batch.categories), len(group.categories), expression.shape[1])
    by_group.add(expression, *(column.codes.astype(int) for column in (batch, group)))
    return by_group, list(batch.categories), list(group.categories)
