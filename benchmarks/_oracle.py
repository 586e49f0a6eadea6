"""A mixed model that is given everything about simulated data but the effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scmedal_tools.bm import agreement
from scmedal_tools.datasets._simulated import CONSTANTS

if TYPE_CHECKING:
    from anndata import AnnData

MIN_CELLS = 10


def oracle_recovery(adata: AnnData) -> list[dict[str, float]]:
    """Agreement with the truth of a BLUP that knows all but the effects.

    It is given the cell types, the conditions, what each group of cells would express in the mean
    of the donors, each gene's true spread of effects in each type, and how log-fold effects are
    correlated between types and donors: of a real data set one would have to estimate these. Not
    strictly the best linear predictor, as shifts of log-normalised expression are not linear in
    log-fold effects. Rows as in :func:`scmedal_tools.bm.effect_recovery`.
    """
    donors = adata.obs["donor"].cat
    types = adata.obs["cell_type"].cat
    n_donors, n_types = len(donors.categories), len(types.categories)
    group = donors.codes.to_numpy() * n_types + types.codes.to_numpy()
    expression = adata.X.toarray().astype(float)
    n_cells = np.bincount(group, minlength=n_donors * n_types)
    seen = np.flatnonzero(n_cells)
    means = np.stack([expression[group == i].mean(0) for i in seen])
    large = [i for i in seen if n_cells[i] >= MIN_CELLS]
    variances = {i: expression[group == i].var(0, ddof=1) for i in large}
    noise = _mean_by_type(variances, n_types)
    truth = adata.varm["true_expression"]
    scenarios = {}
    for i in seen:
        source, label = donors.categories[i // n_types], types.categories[i % n_types]
        columns = [f"{label}|{source}|{target}" for target in donors.categories]
        scenarios[i] = truth[columns].to_numpy().T
    expected = np.stack([scenarios[i].mean(0) for i in seen])
    spread = _mean_by_type({i: x.var(0) for i, x in scenarios.items()}, n_types)

    side = np.where(np.arange(n_donors) >= (n_donors + 1) // 2, 0.5, -0.5)
    of_donors = CONSTANTS.donor_sd**2 * np.eye(n_donors)
    of_donors += CONSTANTS.condition_sd**2 * np.outer(side, side)
    of_both = CONSTANTS.interaction_sd**2 * np.eye(n_donors * n_types)
    correlation = np.kron(of_donors, np.ones((n_types, n_types))) + of_both
    correlation /= CONSTANTS.donor_sd**2 + CONSTANTS.condition_sd**2 / 4 + of_both[0, 0]
    type_of = np.tile(np.arange(n_types), n_donors)

    effects = np.zeros((n_donors * n_types, adata.n_vars))
    for gene in np.flatnonzero(spread.max(0)):
        sd = np.sqrt(spread[type_of, gene])
        prior = correlation * np.outer(sd, sd)
        of_means = noise[type_of[seen], gene] / n_cells[seen] + 1e-9
        inverse = np.linalg.inv(prior[np.ix_(seen, seen)] + np.diag(of_means))
        effects[:, gene] = prior[:, seen] @ inverse @ (means[:, gene] - expected[:, gene])

    rows = []
    for i, of_targets in scenarios.items():
        if n_cells[i] < MIN_CELLS:
            continue
        for target in range(n_donors):
            if target == i // n_types:
                continue
            estimate = effects[target * n_types + i % n_types] - effects[i]
            rows.append(agreement(estimate, of_targets[target] - of_targets[i // n_types]))
    return rows


def _mean_by_type(values: dict[int, np.ndarray], n_types: int) -> np.ndarray:
    of_types = ([x for i, x in values.items() if i % n_types == j] for j in range(n_types))
    return np.stack([np.mean(of_type, axis=0) for of_type in of_types])
