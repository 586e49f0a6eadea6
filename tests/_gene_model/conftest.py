"""Cells with known effects, and the mixed model of one gene in dense matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

N_BATCH, N_STATES = 8, 3


class Dense(NamedTuple):
    """Solution of ``state + (0 + state | batch)`` for one gene, batches x states in a row."""

    fixed: np.ndarray
    loc: np.ndarray
    given_fixed: np.ndarray
    covariance: np.ndarray
    of_sum: np.ndarray
    """Covariance of the fixed plus the random effects."""
    evidence: float
    inverse: np.ndarray


@pytest.fixture(scope="session")
def draw_cells():
    """Give a function that draws residuals of cells: they, batch, state, and the true effects."""

    def draw_cells(seed: int, batch_sd, state_sd, n_cells: int = 2_400):
        rng = np.random.default_rng(seed)
        batch_sd, state_sd = np.atleast_1d(batch_sd), np.atleast_1d(state_sd)
        batch, state = rng.integers(N_BATCH, size=n_cells), rng.integers(N_STATES, size=n_cells)
        of_batch = batch_sd * rng.normal(size=(N_BATCH, 1, len(batch_sd)))
        of_state = state_sd * rng.normal(size=(N_BATCH, N_STATES, len(batch_sd)))
        effects = of_batch + of_state
        means = effects + np.array([0.5, 0.0, -0.5])[:, None]
        noise = np.array([0.8, 1.0, 1.2])[state, None] * rng.normal(size=(n_cells, len(batch_sd)))
        return means[batch, state] + noise, batch, state, effects

    return draw_cells


@pytest.fixture(scope="session")
def groups_of():
    """Give a function that sums residuals over groups, in three minibatches."""
    from scmedal_tools._gene_model import GroupSums

    def groups_of(residuals, batch, state) -> GroupSums:
        groups = GroupSums(N_BATCH, N_STATES, residuals.shape[1])
        for part in np.array_split(np.arange(len(batch)), 3):
            groups.add(residuals[part].astype(np.float32), batch[part], state[part])
        return groups

    return groups_of


@pytest.fixture(scope="session")
def solve_densely():
    """Give a function that solves the model of all groups that have cells at once."""

    def solve_densely(sizes: np.ndarray, means: np.ndarray, covariance: np.ndarray) -> Dense:
        seen = np.argwhere(sizes > 0)
        prior = np.kron(np.eye(len(sizes)), covariance)
        code = seen @ [sizes.shape[1], 1]
        inverse = np.linalg.inv(prior[np.ix_(code, code)] + np.diag(1 / sizes[tuple(seen.T)]))
        design = np.eye(sizes.shape[1])[seen[:, 1]]
        information = design.T @ inverse @ design
        y = means[tuple(seen.T)]
        fixed = np.linalg.solve(information, design.T @ inverse @ y)
        gain = prior[:, code] @ inverse
        given_fixed = prior - gain @ prior[code]
        covariance = given_fixed + gain @ design @ np.linalg.inv(information) @ design.T @ gain.T
        left = np.tile(np.eye(sizes.shape[1]), (len(sizes), 1)) - gain @ design
        of_sum = given_fixed + left @ np.linalg.inv(information) @ left.T
        logs = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(information)[1]
        rest = y - design @ fixed
        logs -= np.log(sizes[tuple(seen.T)]).sum()  # as if the means were sums over the roots
        evidence = 0.5 * (logs - rest @ inverse @ rest)
        return Dense(fixed, gain @ rest, given_fixed, covariance, of_sum, evidence, inverse)

    return solve_densely


@pytest.fixture(scope="session")
def repeat_genes():
    """Give a function that fills effects with copies of every gene of others, side by side.

    Genes are drawn independently of each other, so that a draw of the copies is many draws.
    """

    def repeat_genes(effects, into):
        for name, values in effects.named_buffers():
            repeated = into.get_buffer(name)
            for axis, length in enumerate(values.shape):
                values = values.repeat_interleave(repeated.shape[axis] // length, axis)
            repeated.copy_(values)

    return repeat_genes
