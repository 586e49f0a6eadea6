"""The mixed model of single genes, against statsmodels and known variances."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch

from scmedal_tools.module._gene_effects import MixedEffects
from scmedal_tools.train import _mixed_model
from scmedal_tools.train._mixed_model import (
    GroupSums,
    fit_mixed_model,
    squared_errors,
    stacking_weight,
)

N_BATCH, N_STATES = 8, 3


def cells(seed: int, batch_sd, state_sd, n_cells: int = 2_400):
    """Residuals of cells, their batch and state, and the true effects (batch + batch:state)."""
    rng = np.random.default_rng(seed)
    batch_sd, state_sd = np.atleast_1d(batch_sd), np.atleast_1d(state_sd)
    batch, state = rng.integers(N_BATCH, size=n_cells), rng.integers(N_STATES, size=n_cells)
    of_batch = batch_sd * rng.normal(size=(N_BATCH, 1, len(batch_sd)))
    of_state = state_sd * rng.normal(size=(N_BATCH, N_STATES, len(batch_sd)))
    effects = of_batch + of_state
    means = effects + np.array([0.5, 0.0, -0.5])[:, None]
    noise = np.array([0.8, 1.0, 1.2])[state, None] * rng.normal(size=(n_cells, len(batch_sd)))
    return means[batch, state] + noise, batch, state, effects


def groups_of(residuals, batch, state, parts: int = 3) -> GroupSums:
    groups = GroupSums(N_BATCH, N_STATES, residuals.shape[1])
    for part in np.array_split(np.arange(len(batch)), parts):
        groups.add(residuals[part].astype(np.float32), batch[part], state[part])
    return groups


def test_sums_and_noise_are_those_of_the_cells():
    residuals, batch, state, _ = cells(0, [0.5, 0.0], [0.2, 0.0])
    groups = groups_of(residuals, batch, state)
    table = pd.DataFrame(residuals).assign(batch=batch, state=state)
    sizes = table.groupby(["batch", "state"]).size().to_numpy().reshape(N_BATCH, N_STATES)
    np.testing.assert_array_equal(groups.sizes, sizes)
    means = table.groupby(["batch", "state"])[[0, 1]].transform("mean")
    centred = table[[0, 1]] - means
    for i in range(N_STATES):
        expected = np.square(centred[state == i]).sum() / (sizes[:, i].sum() - N_BATCH)
        # Ten cells of the variance of all states are mixed in.
        np.testing.assert_allclose(groups.noise()[i], expected, rtol=0.02)


def test_evidence_and_posterior_are_those_of_the_dense_model():
    residuals, batch, state, _ = cells(1, [0.4], [0.3], n_cells=150)
    keep = ~((batch == 2) & (state == 1)) & (batch != 5)  # a missing group and a missing batch
    sizes = groups_of(residuals[keep], batch[keep], state[keep]).sizes
    means = np.where(sizes > 0, np.random.default_rng(0).normal(size=sizes.shape), 0.0)
    seen = np.argwhere(sizes > 0)
    y, of_means = means[tuple(seen.T)], 1 / sizes[tuple(seen.T)]
    design = np.eye(N_STATES)[seen[:, 1]]

    def ours(*ratios):
        return _mixed_model._Equations(sizes, means[:, :, None], *np.array(ratios)[:, None])

    def dense(of_batch, of_state):
        same_batch = seen[:, None, 0] == seen[None, :, 0]
        inverse = np.linalg.inv(of_batch * same_batch + np.diag(of_means + of_state))
        information = design.T @ inverse @ design
        common = np.linalg.solve(information, design.T @ inverse @ y)
        rest = y - design @ common
        logs = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(information)[1]
        return 0.5 * (logs - rest @ inverse @ rest), common, inverse, rest

    for ratios in [(0.0, 0.0), (0.1, 0.0), (0.0, 0.2), (0.3, 0.05), (1.0, 1.0)]:
        assert ours(*ratios).evidence()[0] == pytest.approx(dense(*ratios)[0], rel=1e-6)

    _, common, inverse, rest = dense(0.3, 0.2)
    np.testing.assert_allclose(ours(0.3, 0.2).common[:, 0], common, rtol=1e-5)
    effects = MixedEffects(N_BATCH, N_STATES, 1)
    effects.sizes.copy_(torch.as_tensor(sizes))
    effects.ratios.copy_(torch.tensor([[0.3], [0.2]]))
    batch_variance, state_variance, shrinkage = (part[..., 0] for part in effects.posterior())
    for k in range(N_BATCH):
        of_batch = 0.3 * (seen[:, 0] == k)
        variance = 0.3 - of_batch @ inverse @ of_batch
        assert batch_variance[k] == pytest.approx(variance, rel=1e-4)
        for s in range(N_STATES):
            both = of_batch + 0.2 * ((seen[:, 0] == k) & (seen[:, 1] == s))
            loc = ours(0.3, 0.2).effects()[k, s, 0]
            assert loc == pytest.approx(both @ inverse @ rest, abs=1e-6)
            variance = (1 - shrinkage[k, s]) ** 2 * batch_variance[k] + state_variance[k, s]
            assert variance == pytest.approx(0.5 - both @ inverse @ both, rel=1e-4)


def test_variances_of_genes_follow_statsmodels():
    batch_sd = np.array([0.0, 0.2, 0.5, 0.9])
    residuals, batch, state, _ = cells(2, np.repeat(batch_sd, 30), 0.0)
    fitted = fit_mixed_model(groups_of(residuals, batch, state))
    for gene in (35, 65, 95):
        table = pd.DataFrame({"y": residuals[:, gene], "batch": batch, "state": state})
        model = smf.mixedlm("y ~ C(state)", table, groups="batch").fit(reml=True)
        expected = np.array([model.random_effects[k].iloc[0] for k in range(N_BATCH)])
        np.testing.assert_allclose(fitted.loc[:, :, gene].mean(1), expected, atol=0.06)
    size = np.sqrt(np.square(fitted.loc).mean((0, 1))).reshape(4, 30).mean(1)
    assert size[0] < 0.01
    assert np.all(np.diff(size) > 0.1)


def test_genes_without_effect_stay_at_zero_and_the_others_are_not_shrunk_away():
    sd = np.r_[np.zeros(700), np.full(300, 0.5)]
    residuals, batch, state, effects = cells(3, sd, 0.6 * sd)
    fitted = fit_mixed_model(groups_of(residuals, batch, state))
    assert np.abs(fitted.loc[:, :, :700]).mean() < 0.005
    centred = effects - effects.mean(0)
    with_effect = fitted.loc[:, :, 700:].ravel()
    truth = centred[:, :, 700:].ravel()
    slope, _ = np.polyfit(with_effect, truth, 1)
    assert np.corrcoef(with_effect, truth)[0, 1] > 0.97
    assert slope == pytest.approx(1, abs=0.05)


def test_without_any_effect_everything_is_off():
    residuals, batch, state, _ = cells(4, np.zeros(300), 0.0)
    fitted = fit_mixed_model(groups_of(residuals, batch, state))
    # The standard error of a batch's mean is 0.06.
    assert np.abs(fitted.loc).mean() < 0.003
    np.testing.assert_allclose(fitted.common.mean(1), [0.5, 0, -0.5], atol=0.02)


def test_many_genes_are_the_same_as_in_chunks(monkeypatch):
    residuals, batch, state, _ = cells(5, np.linspace(0, 1, 50), 0.2)
    groups = groups_of(residuals, batch, state)
    whole = fit_mixed_model(groups)
    monkeypatch.setattr(_mixed_model, "GENES_PER_CHUNK", 7)
    chunked = fit_mixed_model(groups)
    for name in ("common", "loc", "ratios"):
        np.testing.assert_allclose(getattr(whole, name), getattr(chunked, name), atol=1e-9)


def test_the_stacking_weight_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    truth, first = rng.normal(size=(2, 40, 3))
    second = 0.7 * truth + 0.3 * rng.normal(size=truth.shape)
    parts = [stacking_weight(*(x[i] for x in (truth, first, second))) for i in range(40)]
    above, below = np.sum(parts, 0)
    expected = np.linalg.lstsq(
        (second - first).reshape(-1, 1), (truth - first).ravel(), rcond=None
    )
    assert above / below == pytest.approx(expected[0][0])


def test_squared_errors_need_no_noise():
    """Half of the residuals have an expectation of 0.4, with a noise that differs by group."""
    rng = np.random.default_rng(0)
    batch, state = rng.integers(N_BATCH, size=6_000), rng.integers(N_STATES, size=6_000)
    noise = (1 + batch[:, None]) * rng.normal(size=(6_000, 2_000))
    residuals = noise + np.array([0.0, 0.4]).repeat(1_000)
    halves = tuple(groups_of(residuals[i::2], batch[i::2], state[i::2]) for i in (0, 1))
    squared, weights = squared_errors(halves)
    mean = (weights * squared).sum((0, 1)) / weights.sum()
    assert mean[:1_000].mean() == pytest.approx(0, abs=0.01)
    assert mean[1_000:].mean() == pytest.approx(0.16, abs=0.01)
    expected = groups_of(residuals, batch, state).sizes ** 2 / 4
    np.testing.assert_allclose(weights[:, :, 0], expected, rtol=0.2)
