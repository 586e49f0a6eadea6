"""The mixed model of single genes, against statsmodels and known variances."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from scmedal_tools.module._mixed_equations import (
    VARIANCES,
    MixedEquations,
    covariances,
    likeness_of,
)
from scmedal_tools.train._mixed_model import (
    GroupSums,
    fit_mixed_model,
    squared_errors,
    stacking_weight,
)

N_BATCH, N_STATES = 8, 3
UNLIKE = torch.eye(N_STATES).double()


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


def test_a_minibatch_may_be_empty():
    """As is a half of the last minibatch, if that is a single cell."""
    residuals, batch, state, _ = cells(0, [0.5], 0.0, n_cells=20)
    groups = groups_of(residuals, batch, state)
    before = groups.sums.copy()
    groups.add(residuals[:0].astype(np.float32), batch[:0], state[:0])
    np.testing.assert_array_equal(groups.sums, before)


class TestEquations:
    """Against the model of all groups at once, with dense matrices."""

    PROFILES = torch.tensor([[0.0], [1.0], [3.0]])

    @pytest.fixture(
        params=[(0, 0, 0), (0.064, 0, 0), (0, 0.256, 0), (0.256, 0.064, 1), (1, 1, 1)], ids=str
    )
    def solved(self, request):
        """Our equations, group means, and the dense model of the groups that have cells."""
        likeness = likeness_of(self.PROFILES)
        covariance = covariances(likeness)[VARIANCES.index(request.param)]
        residuals, batch, state, _ = cells(1, [0.4], [0.3], n_cells=150)
        keep = ~((batch == 2) & (state == 1)) & (batch != 5)  # a group and a batch are missing
        sizes = groups_of(residuals[keep], batch[keep], state[keep]).sizes
        means = np.where(sizes > 0, np.random.default_rng(0).normal(size=sizes.shape), 0.0)
        equations = MixedEquations(torch.from_numpy(sizes), covariance)
        seen = np.argwhere(sizes > 0)
        prior = np.kron(np.eye(N_BATCH), covariance.numpy())
        code = seen @ [N_STATES, 1]
        inverse = np.linalg.inv(prior[np.ix_(code, code)] + np.diag(1 / sizes[tuple(seen.T)]))
        design = np.eye(N_STATES)[seen[:, 1]]
        information = design.T @ inverse @ design
        y = means[tuple(seen.T)]
        common = np.linalg.solve(information, design.T @ inverse @ y)
        gain = prior[:, code] @ inverse
        loc = gain @ (y - design @ common)
        spread = prior - gain @ prior[code]
        spread += gain @ design @ np.linalg.inv(information) @ design.T @ gain.T
        logs = np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(information)[1]
        rest = y - design @ common
        evidence = 0.5 * (logs - rest @ inverse @ rest - np.log(sizes[tuple(seen.T)]).sum())
        return equations, torch.from_numpy(means)[:, :, None], common, loc, spread, evidence

    def test_likeness_falls_with_the_distance(self):
        """The mean squared distance to the nearest is 2, of which the reach is twice."""
        expected = np.exp(-np.square(self.PROFILES.numpy() - self.PROFILES.numpy().T) / 8)
        np.testing.assert_allclose(likeness_of(self.PROFILES), expected, rtol=1e-6)

    @pytest.mark.parametrize("profiles", [torch.ones(1, 4), torch.ones(3, 4)])
    def test_states_that_cannot_be_told_apart_are_alike(self, profiles):
        assert likeness_of(profiles).eq(1).all()

    def test_evidence(self, solved):
        equations, means, *_, expected = solved
        assert equations.evidence(means)[0].item() == pytest.approx(expected, rel=1e-6)

    def test_means(self, solved):
        equations, means, common, loc, *_ = solved
        ours = equations.common(means)
        np.testing.assert_allclose(ours[:, 0], common, atol=1e-8)
        np.testing.assert_allclose(equations.effects(means, ours).ravel(), loc, atol=1e-8)

    def test_variances_with_that_of_the_fixed_effects(self, solved):
        equations, *_, spread, _ = solved
        np.testing.assert_allclose(equations.variance().ravel(), spread.diagonal(), atol=1e-8)

    def test_draws_have_the_same_moments(self, solved):
        equations, means, _, loc, spread, _ = solved
        generator, many = torch.Generator().manual_seed(0), means.repeat(1, 1, 20_000)
        common = equations.draw_common(many, generator)
        draws = equations.draw_effects(many, common, generator)
        of_sum = (common + draws).var(2)
        largest = max(of_sum.max().item(), 1e-9)
        np.testing.assert_allclose(equations.variance_of_sum(), of_sum, atol=0.04 * largest)
        draws = draws.reshape(-1, 20_000).numpy()
        tolerance = 0.03 * max(spread.diagonal().max(), 1e-9) ** 0.5
        np.testing.assert_allclose(draws.mean(1), loc, atol=tolerance)
        largest = spread.diagonal().max()
        np.testing.assert_allclose(np.cov(draws), spread, atol=0.04 * largest + 1e-12)


def test_a_batch_takes_after_its_like_states():
    """Effects are the same in the first two states; a batch without cells of one has them too."""
    residuals, batch, state, effects = cells(6, np.zeros(200), 0.6, n_cells=8_000)
    residuals -= effects[batch, state]
    effects[:, 1] = effects[:, 0]
    residuals += effects[batch, state]
    keep = (batch != 3) | (state != 1)
    groups = groups_of(residuals[keep], batch[keep], state[keep])
    likeness = torch.tensor([[1, 0.95, 0], [0.95, 1, 0], [0, 0, 1.0]], dtype=torch.double)
    fitted = fit_mixed_model(groups, likeness)
    truth = effects[3, 1] - effects[:, 1].mean(0)
    assert np.corrcoef(fitted.loc[3, 1], truth)[0, 1] > 0.9
    unaware = fit_mixed_model(groups, torch.eye(N_STATES).double())
    assert np.corrcoef(unaware.loc[3, 1], truth)[0, 1] < 0.85


def test_variances_of_genes_follow_statsmodels():
    batch_sd = np.array([0.0, 0.2, 0.5, 0.9])
    residuals, batch, state, _ = cells(2, np.repeat(batch_sd, 30), 0.0)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
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
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    assert np.abs(fitted.loc[:, :, :700]).mean() < 0.005
    centred = effects - effects.mean(0)
    with_effect = fitted.loc[:, :, 700:].ravel()
    truth = centred[:, :, 700:].ravel()
    slope, _ = np.polyfit(with_effect, truth, 1)
    assert np.corrcoef(with_effect, truth)[0, 1] > 0.97
    assert slope == pytest.approx(1, abs=0.05)


def test_without_any_effect_everything_is_off():
    residuals, batch, state, _ = cells(4, np.zeros(300), 0.0)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    # The standard error of a batch's mean is 0.06.
    assert np.abs(fitted.loc).mean() < 0.003
    np.testing.assert_allclose(fitted.common.mean(1), [0.5, 0, -0.5], atol=0.02)


def test_a_mixture_has_the_variance_of_its_parts():
    """Half of the genes have effects; of a gene with little data either may be true."""
    residuals, batch, state, effects = cells(5, np.repeat([0.0, 0.5], 500), 0.0, n_cells=60)
    fitted = fit_mixed_model(groups_of(residuals, batch, state), UNLIKE)
    errors = np.square(fitted.loc - effects).mean((0, 1))
    claimed = np.square(fitted.sd).mean((0, 1))
    for genes in np.array_split(np.argsort(claimed), 4)[1:]:
        assert errors[genes].mean() == pytest.approx(claimed[genes].mean(), rel=0.3)


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
