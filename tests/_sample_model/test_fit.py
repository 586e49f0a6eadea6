"""Contrasts of simulated genes: are they right, and do they keep to their level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scmedal_tools._sample_model import Response, fit_samples
from scmedal_tools._sample_model._fit import variances

N_GENES = 1_200
GROUP = np.repeat([0.0, 1.0], 6)
DESIGN = np.column_stack([np.ones(12), GROUP])
CONTRAST = np.array([[0.0, 1.0]])


def simulated(seed=3, effects=0.0, donor=None):
    """Genes whose samples vary more or less, measured with known noise."""
    rng = np.random.default_rng(seed)
    sd = np.sqrt(0.04 / rng.chisquare(6, N_GENES) * 6)
    noise = rng.uniform(0.01, 0.1, (12, 1)) * np.ones(N_GENES)
    values = sd * rng.normal(size=(12, N_GENES)) + np.sqrt(noise) * rng.normal(size=noise.shape)
    if donor is not None:
        values += rng.normal(0, 0.7, (donor.max() + 1, N_GENES))[donor]
    return Response(values, noise), effects


def estimated(response, design=DESIGN, levels=(), contrast=CONTRAST):
    return fit_samples(response, design, levels, [contrast]).contrasts[0]


@pytest.mark.parametrize("rows", [slice(None), slice(3, 9)], ids=["6 and 6", "3 and 3"])
def test_p_values_are_uniform_where_nothing_differs(rows):
    response, _ = simulated()
    response = Response(*(x[rows] for x in response))
    p = estimated(response, DESIGN[rows]).p_values()
    for level in (0.01, 0.05, 0.3):
        assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level / N_GENES))


def with_outliers(n_donors, n_genes=6_000):
    """Genes whose donors deviate as Student's t with 6 degrees of freedom, and nothing else."""
    noise = np.full((n_donors, n_genes), 0.01)
    return Response(0.3 * np.random.default_rng(0).standard_t(6, noise.shape), noise)


SKEWED = np.array([0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 6])
FEW_DECIDE = {
    "a donor against nine": (np.arange(10) < 1)[:, None],
    "a skewed number": SKEWED[:, None],
    "groups of 1, 5 and 6 at once": np.repeat(np.eye(3), [1, 5, 6], axis=0)[:, :2],
}


@pytest.mark.parametrize("name", FEW_DECIDE)
def test_outliers_do_not_make_findings_where_few_donors_decide(name):
    columns = FEW_DECIDE[name].astype(float)
    response = with_outliers(len(columns))
    design = np.column_stack([np.ones(len(columns)), columns])
    p = estimated(response, design, contrast=np.eye(design.shape[1])[1:]).p_values()
    # Far out, a test of several coefficients is corrected by half.
    for level in (0.001,) if columns.shape[1] > 1 else (0.0003, 0.001):
        assert (p < level).sum() <= 6_000 * level + 3 * np.sqrt(6_000 * level)
    assert 0.035 < (p < 0.05).mean() < 0.06


def test_a_sign_is_not_believed_for_an_outlier():
    """A gene of 6,000 without effects, in which the donor alone in its group is far off."""
    design = np.column_stack([np.ones(10), np.arange(10) < 1]).astype(float)
    assert estimated(with_outliers(10), design).lfsr().min() > 0.2


def test_equal_groups_are_tested_as_if_donors_had_no_outliers():
    found = estimated(simulated()[0])
    z = found.values[:, :, 0] / np.sqrt(found.covariances[:, :, 0, 0])
    tails = (found.probabilities * stats.norm.sf(z)).sum(1)
    np.testing.assert_allclose(found.p_values(), 2 * np.minimum(tails, 1 - tails), rtol=1e-4)


def test_pairs_are_compared_within_donors():
    """The donors' own differences, which are large, cost next to nothing."""
    donor, group = np.repeat(np.arange(6), 2), np.tile([0.0, 1.0], 6)
    design = np.column_stack([np.ones(12), group])
    response, _ = simulated(donor=donor)
    paired = estimated(response, design, [donor])
    assert np.mean(paired.p_values() < 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.median(paired.sd) < 0.5 * np.median(estimated(response, design).sd)


def test_effects_and_their_standard_errors():
    response, _ = simulated()
    effects = np.where(
        np.arange(N_GENES) % 2, 0.0, np.random.default_rng(1).normal(0, 0.6, N_GENES)
    )
    response.values[:] += GROUP[:, None] * effects
    found = estimated(response)
    z = (found.mean - effects) / found.sd
    assert abs(z.mean()) < 0.1
    assert 0.85 < z.std() < 1.15
    # As often as they say, the sign is wrong or the effect is none.
    lfsr = found.lfsr()
    wrong = np.sign(found.mean) != np.sign(effects)
    assert (lfsr < 0.1).sum() > 100
    assert wrong[lfsr < 0.1].mean() == pytest.approx(lfsr[lfsr < 0.1].mean(), abs=0.03)
    assert (lfsr[effects == 0] > 0.1).mean() > 0.95


def test_several_coefficients_at_once():
    """Two indicator variables in any coding have the same test, of the right level."""
    design = np.column_stack([np.ones(12), np.arange(12) % 3 == 1, np.arange(12) % 3 == 2])
    design = design.astype(float)
    response, _ = simulated()
    p = estimated(response, design, contrast=np.eye(3)[1:]).p_values()
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.03)
    other = estimated(response, design, contrast=np.array([[0, 1, -1], [0, 1, 1.0]])).p_values()
    np.testing.assert_allclose(p, other)


def test_fitted_values_lie_between_the_data_and_the_fixed_effects():
    response, _ = simulated()
    fit = fit_samples(response, DESIGN, [], [CONTRAST])
    residuals = response.values - fit.fixed
    share = (fit.effects * residuals).sum(0) / np.square(residuals).sum(0)
    assert ((share > 0) & (share < 1)).all()
    # Less is left of samples that are measured with more noise.
    noisy, precise = response.noise[:, 0].argsort()[[-1, 0]]
    kept = np.abs(fit.effects).mean(1) / np.abs(residuals).mean(1)
    assert kept[noisy] < kept[precise]


def test_blocks_of_genes_change_nothing(monkeypatch):
    response, _ = simulated()
    whole = fit_samples(response, DESIGN, [], [CONTRAST])
    monkeypatch.setattr("scmedal_tools._sample_model._fit.GENES_AT_ONCE", 77)
    parts = fit_samples(response, DESIGN, [], [CONTRAST])
    np.testing.assert_allclose(whole.contrasts[0].p_values(), parts.contrasts[0].p_values())
    np.testing.assert_allclose(whole.effects, parts.effects, atol=1e-6)


@pytest.mark.parametrize("n_levels", [1, 2, 3])
def test_grid_reaches_from_two_percent_to_threefold(n_levels):
    grid = np.array(variances(n_levels))
    assert grid.shape[1] == n_levels
    assert np.sqrt(grid.min()) == pytest.approx(0.02)
    assert 0.4 < np.sqrt(grid.max()) < 1.5
