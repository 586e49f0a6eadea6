"""The solution for known variances, against dense matrices, statsmodels and lme4."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scmedal_tools._sample_model import NestedModel

DONOR = np.repeat(np.arange(5), [6, 4, 6, 8, 6])
SAMPLE = np.arange(30) // 2
VARIANCES = (0.3, 0.5, 0.7)


@pytest.fixture
def data():
    """Response, sampling variances and design of 30 rows and two genes."""
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(30), SAMPLE % 2, rng.normal(size=30)])
    return rng.normal(size=(30, 2)), rng.uniform(0.1, 1, (30, 2)), design


@pytest.mark.parametrize("n_levels", [0, 1, 2])
def test_is_the_solution_with_dense_matrices(data, n_levels):
    response, noise, design = data
    levels, variances = (SAMPLE, DONOR)[:n_levels], VARIANCES[: n_levels + 1]
    model = NestedModel(response, noise, design, levels)
    solved = model.solve(variances)
    effects = model.effects(variances, solved.coefficients)
    random = variances[0] * np.eye(30)
    for level, variance in zip(levels, variances[1:], strict=True):
        random = random + variance * (level[:, None] == level)
    for gene in range(2):
        covariance = random + np.diag(noise[:, gene])
        inverse = np.linalg.inv(covariance)
        information = design.T @ inverse @ design
        coefficients = np.linalg.solve(information, design.T @ inverse @ response[:, gene])
        residuals = response[:, gene] - design @ coefficients
        evidence = -0.5 * (
            np.linalg.slogdet(covariance).logabsdet
            + np.linalg.slogdet(information).logabsdet
            + residuals @ inverse @ residuals
        )
        np.testing.assert_allclose(solved.coefficients[gene], coefficients)
        np.testing.assert_allclose(solved.covariance[gene], np.linalg.inv(information))
        assert solved.evidence[gene] == pytest.approx(evidence)
        np.testing.assert_allclose(effects[:, gene], random @ inverse @ residuals)


@pytest.mark.parametrize("n_levels", [0, 1, 2])
@pytest.mark.parametrize("contrast", [[[0, 1, 0]], [[0, 1, 0], [0, 1, -1]]])
def test_shares_are_what_each_unit_adds_to_the_variance(data, n_levels, contrast):
    response, noise, design = data
    contrast = np.array(contrast, float)
    levels, variances = (SAMPLE, DONOR)[:n_levels], VARIANCES[: n_levels + 1]
    shares = NestedModel(response, noise, design, levels).shares(variances, contrast)
    random = variances[0] * np.eye(30)
    for level, variance in zip(levels, variances[1:], strict=True):
        random = random + variance * (level[:, None] == level)
    unit = np.array([np.arange(30), SAMPLE, DONOR][n_levels])
    for gene in range(2):
        covariance = random + np.diag(noise[:, gene])
        inverse = np.linalg.inv(covariance)
        weights = contrast @ np.linalg.inv(design.T @ inverse @ design) @ design.T @ inverse
        total = np.linalg.inv(weights @ covariance @ weights.T)
        for k, share in enumerate(shares[gene]):
            own = np.where(unit == k, weights, 0)
            added = np.trace(total @ own @ covariance @ own.T) / len(contrast)
            assert share == pytest.approx(added)


def test_is_the_mixed_model_of_statsmodels(data):
    """At its variances: coefficients, standard errors, donors' effects, likelihood's maximum."""
    import statsmodels.api as sm

    _, _, design = data
    rng = np.random.default_rng(1)
    response = design @ [1, 0.5, -1] + rng.normal(size=5)[DONOR] + rng.normal(size=30)
    fitted = sm.MixedLM(response, design, DONOR).fit(reml=True)
    residual, of_donor = fitted.scale, float(fitted.cov_re[0, 0])
    noise = np.full((30, 1), 0.4 * residual)
    model = NestedModel(response[:, None], noise, design, [DONOR])
    variances = (0.6 * residual, of_donor)
    solved = model.solve(variances)
    np.testing.assert_allclose(solved.coefficients[0], fitted.fe_params, rtol=1e-4)
    se = np.sqrt(np.diag(solved.covariance[0]))
    np.testing.assert_allclose(se, fitted.bse_fe, rtol=5e-3)
    # Of what the residuals leave beside the donor's effect, the rows' own take 0.6.
    rows = 0.6 * (response - design @ solved.coefficients[0])
    donors = (model.effects(variances, solved.coefficients)[:, 0] - rows) / 0.4
    expected = pd.Series({k: v.iloc[0] for k, v in fitted.random_effects.items()})[DONOR]
    np.testing.assert_allclose(donors, expected, rtol=1e-3)
    for factor in (0.8, 1.25):
        assert model.solve((0.6 * residual, factor * of_donor)).evidence < solved.evidence


def test_is_the_mixed_model_of_lme4():
    """At its variances, with rows in samples in donors, as tests/lme4/fit.R fitted it."""
    fits = json.loads((Path(__file__).parents[1] / "lme4" / "fits.json").read_text())["nested"]
    i = np.arange(60.0)
    sample = i // 3
    donor = sample // 2
    treated, age = sample % 2, sines(donor + 1, 1)
    response = 0.6 * treated + 0.3 * age + 0.9 * sines(donor + 2, 2)
    response += 0.7 * sines(sample + 2, 3) + 0.8 * sines(i + 3, 4)
    of_sample, of_donor, residual = fits["variances"]
    noise = residual / (1 + i[:, None] % 4)
    design = np.column_stack([np.ones(60), treated, age])
    model = NestedModel(response[:, None], noise, design, [sample, donor])
    variances = (0.0, of_sample, of_donor)
    solved = model.solve(variances)
    np.testing.assert_allclose(solved.coefficients[0], fits["coefficients"], rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(solved.covariance[0])), fits["se"], rtol=1e-6)
    effects = model.effects(variances, solved.coefficients)[:, 0]
    np.testing.assert_allclose(effects, fits["effects"], atol=1e-6)


def sines(i, k):
    return np.sin(91.7 * i + 13.1 * k * i**1.3)
