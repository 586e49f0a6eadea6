"""What a statistician would try first: batch effects that are added to the cells."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    Effects = tuple[pd.DataFrame, dict[tuple[str, str], np.ndarray]]

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
TUNING_ROUNDS = 5
TUNING_SHARE = 0.25
TUNING_MIN_CELLS = 10
TUNING_MIN_SOURCE = 5


class Counterfactual(Protocol):
    """Anything that says what cells would express in a batch."""

    def __call__(self, cells: np.ndarray, target: str) -> np.ndarray:
        """Expression ``(n_cells, n_genes)`` of the cells at these positions, as in ``target``."""


@dataclass(frozen=True)
class AddedEffects:
    """Counterfactual that takes the effect of a cell's batch off and puts the target's on.

    Parameters
    ----------
    expression
        Cells x genes.
    batches, labels
        Batch and cell type of each cell.
    effects
        Effect of each batch, batches x genes.
    interactions
        Further effect of a batch on a cell type, by (batch, cell type); absent ones are zero.
    """

    expression: np.ndarray
    batches: np.ndarray
    labels: np.ndarray
    effects: pd.DataFrame
    interactions: dict[tuple[str, str], np.ndarray]

    def __call__(self, cells: np.ndarray, target: str) -> np.ndarray:
        """Expression of the cells with the target's effects instead of their own."""
        groups = pd.MultiIndex.from_arrays([self.batches[cells], self.labels[cells]])
        codes, distinct = groups.factorize()
        shifts = [self._effect(target, label) - self._effect(batch, label)
                  for batch, label in distinct]  # fmt: skip
        return self.expression[cells] + np.stack(shifts)[codes]

    def _effect(self, batch: str, label: str) -> np.ndarray:
        return self.effects.loc[batch].to_numpy() + self.interactions.get((batch, label), 0.0)


@dataclass(frozen=True)
class Groups:
    """Mean expression of the training cells of every batch and group.

    Parameters
    ----------
    means
        Groups x genes.
    sizes
        Number of cells of each row of ``means``.
    batch, group
        Codes into ``batch_names`` and ``group_names``.
    """

    means: np.ndarray
    sizes: np.ndarray
    batch: np.ndarray
    group: np.ndarray
    batch_names: list[str]
    group_names: list[str]

    @classmethod
    def of(cls, expression: np.ndarray, batches: np.ndarray, groups: np.ndarray) -> Groups:
        """Average cells x genes over the cells of every batch and group."""
        columns = [pd.Categorical(values) for values in (batches, groups)]
        codes, distinct = pd.MultiIndex.from_arrays([c.codes for c in columns]).factorize(
            sort=True
        )
        indicator = sparse.csr_array((np.ones(codes.size), (codes, np.arange(codes.size))))
        sizes = np.bincount(codes).astype(float)
        means = np.asarray(indicator @ expression) / sizes[:, None]
        batch, group = (distinct.get_level_values(i).to_numpy() for i in (0, 1))
        batch_names, group_names = (list(column.categories) for column in columns)
        return cls(means, sizes, batch, group, batch_names, group_names)

    def __getitem__(self, rows: np.ndarray) -> Groups:
        """Some of the rows; the names stay."""
        return replace(
            self,
            means=self.means[rows],
            sizes=self.sizes[rows],
            batch=self.batch[rows],
            group=self.group[rows],
        )

    @property
    def pairs(self) -> pd.MultiIndex:
        """Batch and group of each row, as codes."""
        return pd.MultiIndex.from_arrays([self.batch, self.group])

    @property
    def design(self) -> np.ndarray:
        """Indicators of the batches and then of the groups, a row for each row of ``means``."""
        batch = np.eye(len(self.batch_names))[self.batch]
        return np.hstack([batch, np.eye(len(self.group_names))[self.group]])


def baselines(
    expression: Any, batches: np.ndarray, labels: np.ndarray, train: np.ndarray
) -> dict[str, Counterfactual]:
    """Fit all baselines to the training cells of log-normalised cells x genes.

    *Additive*: mean(B) - mean(A). *Least squares* on batch + cell type. *BLUP*: the mixed model
    ``type + (1|batch) + (1|batch:type)``, both penalties shared by all genes and tuned on
    combinations of batch and type held out inside the training cells. The last two are told the
    types; told nothing, they have clusters of a Harmony space instead. Without the ``benchmark``
    extra a warning says that those are left out.
    """
    expression = expression.toarray() if sparse.issparse(expression) else np.asarray(expression)
    cells = expression[train], batches[train]
    fitted = {
        "additive": (labels, additive(*cells)),
        "least squares (told the types)": (labels, least_squares(*cells, labels[train])),
        "BLUP (told the types)": (labels, blup(*cells, labels[train])),
    }
    if find_spec("harmonypy"):
        clusters = np.full(len(labels), "", dtype=object)
        clusters[train] = harmony_clusters(*cells).astype(str)
        fitted["least squares (Harmony clusters)"] = (
            clusters,
            least_squares(*cells, clusters[train]),
        )
        fitted["BLUP (Harmony clusters)"] = (clusters, blup(*cells, clusters[train]))
    else:
        warnings.warn(
            "The baselines on Harmony clusters are left out, as harmonypy is missing. Run:\n"
            "pip install 'scmedal-tools[benchmark]'",
            UserWarning,
            stacklevel=3,
        )
    return {
        name: AddedEffects(expression, batches, groups, *effects)
        for name, (groups, effects) in fitted.items()
    }


def additive(expression: np.ndarray, batches: np.ndarray) -> Effects:
    """Mean of every batch, whatever its cells are."""
    groups = Groups.of(expression, batches, np.zeros_like(batches))
    return _table(groups, groups.means), {}


def least_squares(expression: np.ndarray, batches: np.ndarray, labels: np.ndarray) -> Effects:
    """Effects of the batches in a least-squares fit on batch + group."""
    groups = Groups.of(expression, batches, labels)
    design = groups.design
    weighted = design.T * groups.sizes
    # The indicators are collinear; of the effects only differences are used.
    coefficients = np.linalg.pinv(weighted @ design) @ (weighted @ groups.means)
    return _table(groups, coefficients), {}


def blup(expression: np.ndarray, batches: np.ndarray, labels: np.ndarray) -> Effects:
    """Predicted effects of the mixed model ``type + (1|batch) + (1|batch:type)``."""
    groups = Groups.of(expression, batches, labels)
    penalties = tuned_penalties(expression, batches, labels)
    coefficients, interactions = solve_mixed_model(groups, *penalties)
    names = zip(groups.batch, groups.group, strict=True)
    return _table(groups, coefficients), {
        (groups.batch_names[batch], groups.group_names[group]): effect
        for (batch, group), effect in zip(names, interactions, strict=True)
    }


def solve_mixed_model(
    groups: Groups, batch_penalty: float, interaction_penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Henderson's equations of ``group + (1|batch) + (1|batch:group)`` on the group means.

    The penalties are :math:`\sigma^2 / \tau^2` of the two levels. Returns the effects of batches
    and groups (a row each), and the interaction of every row of ``groups``.
    """
    design = groups.design
    # With the interaction integrated out, a mean varies by sigma^2 / n + tau^2.
    weights = 1 / (1 / groups.sizes + 1 / interaction_penalty)
    weighted = design.T * weights
    n_batch = len(groups.batch_names)
    penalty = np.r_[np.full(n_batch, batch_penalty), np.full(design.shape[1] - n_batch, 1e-8)]
    normal = weighted @ design + np.diag(penalty)
    coefficients = np.linalg.lstsq(normal, weighted @ groups.means, rcond=None)[0]
    residual = groups.means - design @ coefficients
    return coefficients, (weights / interaction_penalty)[:, None] * residual


def tuned_penalties(
    expression: np.ndarray, batches: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Penalties that predict shifts best towards combinations held out inside these cells.

    The model is fitted to one half of the cells and judged on the other: on its own cells it would
    be rewarded for fitting their noise.
    """
    rng = np.random.default_rng(0)
    columns = [pd.Categorical(values) for values in (batches, labels)]
    errors = dict.fromkeys(product(PENALTIES, PENALTIES), 0.0)
    for _ in range(TUNING_ROUNDS):
        order = rng.permutation(len(batches))
        fitted, judged = (
            Groups.of(expression[half], *(column[half] for column in columns))
            for half in np.array_split(order, 2)
        )
        candidates = np.flatnonzero(judged.sizes >= TUNING_MIN_CELLS)
        held_out = judged[
            rng.permutation(candidates)[: max(1, int(TUNING_SHARE * len(candidates)))]
        ]
        kept = fitted[~fitted.pairs.isin(held_out.pairs)]
        sources = judged[judged.pairs.isin(kept.pairs) & (judged.sizes >= TUNING_MIN_SOURCE)]
        for penalties in errors:
            errors[penalties] += _shift_error(kept, sources, held_out, penalties)
    return min(errors, key=errors.__getitem__)


def _shift_error(
    kept: Groups, sources: Groups, held_out: Groups, penalties: tuple[float, float]
) -> float:
    coefficients, interactions = solve_mixed_model(kept, *penalties)
    own = coefficients[sources.batch] + interactions[kept.pairs.get_indexer(sources.pairs)]
    error = 0.0
    for batch, group, mean in zip(held_out.batch, held_out.group, held_out.means, strict=True):
        of_group = sources.group == group
        predicted = coefficients[batch] - own[of_group]
        error += np.square(predicted - (mean - sources.means[of_group])).sum()
    return error


def harmony_clusters(expression: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Clusters of cells in Harmony's space, which stand for types that nobody told."""
    import harmonypy
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    components = PCA(min(30, *expression.shape), random_state=0).fit_transform(expression)
    obs = pd.DataFrame({"batch": batches})
    corrected = np.asarray(harmonypy.run_harmony(components, obs, "batch", verbose=False).Z_corr)
    corrected = corrected if corrected.shape == components.shape else corrected.T
    return KMeans(min(20, len(components)), n_init=3, random_state=0).fit_predict(corrected)


def _table(groups: Groups, coefficients: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(coefficients[: len(groups.batch_names)], index=groups.batch_names)
