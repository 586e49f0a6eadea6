"""The baselines against computations on single cells with numpy, pandas and scikit-learn."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression

from scmedal_tools.bm._counterfactuals import _baselines
from scmedal_tools.bm._counterfactuals._baselines import (
    AddedEffects,
    MeanOfOtherContexts,
    _harmony_clusters,
    additive,
    baselines,
    least_squares,
    mixed_model,
    observed_means,
)

BATCHES, TYPES = list("abcd"), list("xyz")


def draw(seed=0, n_cells=400, n_genes=6, batch_sd=1.0, interaction_sd=0.5, noise=0.5, n_batches=4):
    """Cells of which batch and type are confounded, and type z is missing in batch a."""
    rng = np.random.default_rng(seed)
    names = np.array([chr(ord("a") + i) for i in range(n_batches)])
    batches = rng.choice(names, n_cells)
    rare = (batches == "a") | (batches == "b")
    labels = np.where(rng.random(n_cells) < np.where(rare, 0.75, 0.3), "x", "y")
    labels = np.where((rng.random(n_cells) < 0.3) & (batches != "a"), "z", labels).astype(object)
    effects = pd.DataFrame(batch_sd * rng.normal(size=(n_batches, n_genes)), index=names)
    types = pd.DataFrame(3 * rng.normal(size=(3, n_genes)), index=TYPES)
    interactions = interaction_sd * rng.normal(size=(n_batches, 3, n_genes))
    codes = np.searchsorted(names, batches), np.searchsorted(TYPES, labels.astype(str))
    expression = effects.loc[batches].to_numpy() + types.loc[labels].to_numpy()
    expression += interactions[codes] + noise * rng.normal(size=(n_cells, n_genes))
    return SimpleNamespace(
        expression=expression, batches=batches.astype(object), labels=labels, effects=effects
    )


@pytest.fixture(scope="module")
def data():
    return draw()


def fit_by(method, data):
    return method(data.expression, data.batches, data.labels)


def differences(effects):
    """All batches minus the first, where effects are those of all groups."""
    assert (effects.values == effects.values[:, :1]).all()
    return effects.values[1:, 0] - effects.values[0, 0]


class TestAdditive:
    def test_effects_are_the_means_of_the_batches(self, data):
        effects = fit_by(additive, data)
        expected = pd.DataFrame(data.expression).groupby(data.batches).mean()
        assert effects.batch_names == list(expected.index)
        assert effects.group_names == TYPES
        for group in range(3):
            np.testing.assert_allclose(effects.values[:, group], expected, atol=1e-10)


class TestLeastSquares:
    def test_differences_are_those_of_a_fit_to_the_cells(self, data):
        effects = fit_by(least_squares, data)
        obs = pd.DataFrame({"batch": data.batches, "type": data.labels})
        design = pd.get_dummies(obs, drop_first=True, dtype=float)
        assert list(design)[:3] == ["batch_b", "batch_c", "batch_d"]
        by_sklearn = LinearRegression().fit(design.to_numpy(), data.expression).coef_.T[:3]
        full = np.hstack([np.ones((len(design), 1)), design])
        by_numpy = np.linalg.lstsq(full, data.expression, rcond=None)[0][1:4]
        np.testing.assert_allclose(differences(effects), by_sklearn, atol=1e-8)
        np.testing.assert_allclose(differences(effects), by_numpy, atol=1e-8)
        assert effects[1:] == (BATCHES, TYPES)

    def test_confounding_does_not_mislead_it_as_it_does_the_means(self):
        data = draw(interaction_sd=0, noise=0)
        truth = data.effects.to_numpy()[1:] - data.effects.to_numpy()[0]
        np.testing.assert_allclose(differences(fit_by(least_squares, data)), truth, atol=1e-8)
        assert np.abs(differences(fit_by(additive, data)) - truth).max() > 0.5


def posterior_of_cells(data):
    """Posterior means of the effects by dense matrices of single cells, batches x types x genes.

    The variances of a gene are a point of a grid, whose frequencies are found from all genes.
    """
    batch, state = (pd.Categorical(x).codes.astype(int) for x in (data.batches, data.labels))
    frame = pd.DataFrame(data.expression)
    profiles = frame.groupby(state).mean().to_numpy()
    squares = np.square(profiles[:, None] - profiles).sum(-1)
    nearest = np.where(np.eye(3), np.inf, squares).min(1).mean()
    correlation = np.exp(-squares / (2 * 2 * nearest))
    within = np.square(frame - frame.groupby([batch, state]).transform("mean"))
    freedom = pd.Series(state).value_counts(sort=False).sort_index().to_numpy()
    freedom = freedom - pd.Series(batch).groupby(state).nunique().to_numpy()
    pooled = within.sum().to_numpy() / freedom.sum()
    variance = (within.groupby(state).sum() + 10 * pooled).to_numpy() / (freedom + 10)[:, None]
    y = data.expression / np.sqrt(variance)[state]
    design = np.eye(3)[state]
    combination = np.eye(12)[3 * batch + state]
    ratios = (0.0, 1e-3, 4e-3, 0.016, 0.064, 0.256, 1.0)
    evidence, effects = [], []
    for a, b, correlated in product(ratios, ratios, (False, True)):
        if b or not correlated:
            prior = np.kron(np.eye(4), a + b * (correlation if correlated else np.eye(3)))
            total = combination @ prior @ combination.T + np.eye(len(y))
            inverse = np.linalg.inv(total)
            information = design.T @ inverse @ design
            rest = y - design @ np.linalg.solve(information, design.T @ inverse @ y)
            logs = np.linalg.slogdet(total)[1] + np.linalg.slogdet(information)[1]
            evidence.append(-0.5 * (logs + (rest * (inverse @ rest)).sum(0)))
            effects.append(prior @ combination.T @ inverse @ rest)
    likelihood = np.exp(evidence - np.max(evidence, 0))
    frequency = np.full(len(likelihood), 1 / len(likelihood))
    for _ in range(200):
        posterior = frequency[:, None] * likelihood
        posterior /= posterior.sum(0)
        frequency = posterior.mean(1)
    mean = (posterior[:, None] * np.array(effects)).sum(0).reshape(4, 3, -1)
    return mean * np.sqrt(variance)


class TestMixedModel:
    @pytest.mark.slow
    def test_is_the_posterior_of_the_cells(self, data):
        effects = fit_by(mixed_model, data)
        assert effects[1:] == (BATCHES, TYPES)
        expected = posterior_of_cells(data)
        np.testing.assert_allclose(effects.values, expected, atol=1e-5)
        assert np.abs(expected).max() > 0.5
        # Batch a has no cell of type z, of which all the same something is known.
        assert np.abs(expected[0, 2]).max() > 0.1
        assert np.abs(expected[0, 2] - expected[0, 0]).max() > 0.05

    def test_predicts_combinations_without_cells_better_than_least_squares(self):
        """Most genes have no effect, and of those that have it differs between types."""
        has_effect = np.arange(120) < 40
        sizes = {"n_cells": 1200, "n_genes": 120, "n_batches": 8}
        data = draw(batch_sd=0.5 * has_effect, interaction_sd=0.4 * has_effect, noise=1, **sizes)
        out = (data.batches == "c") & (data.labels == "y")
        kept = SimpleNamespace(
            **{name: values[~out] for name, values in vars(data).items() if name != "effects"}
        )
        errors = {}
        for method in (least_squares, mixed_model):
            values = fit_by(method, kept).values
            measured = fit_by(observed_means, data).values
            predicted = values[2, 1] - values[[3, 4, 5], 1]
            shifts = measured[2, 1] - measured[[3, 4, 5], 1]
            errors[method] = np.square(predicted - shifts).sum()
        assert errors[mixed_model] < 0.8 * errors[least_squares]


class TestAddedEffects:
    @pytest.fixture
    def shifted(self, data):
        values = np.random.default_rng(0).normal(size=(4, 3, 6))
        cells = data.expression.copy(), data.batches, data.labels
        return AddedEffects(*cells, values, BATCHES, TYPES)

    @pytest.mark.parametrize("target", BATCHES)
    def test_a_cell_stays_what_it_is_in_its_own_batch(self, shifted, data, target):
        cells = np.flatnonzero(data.batches == target)
        np.testing.assert_array_equal(shifted(cells, target), data.expression[cells])

    @pytest.mark.parametrize("target", BATCHES)
    def test_cells_lose_the_effects_of_their_batch_and_get_the_targets(
        self, shifted, data, target
    ):
        cells = np.random.default_rng(0).permutation(len(data.batches))[:90]
        result = shifted(cells, target)
        for i, cell in enumerate(cells):
            own, label = BATCHES.index(data.batches[cell]), TYPES.index(data.labels[cell])
            shift = shifted.values[BATCHES.index(target), label] - shifted.values[own, label]
            np.testing.assert_allclose(result[i], data.expression[cell] + shift, atol=1e-12)
        np.testing.assert_array_equal(shifted.expression, data.expression)

    def test_effects_are_not_rounded_to_counts(self, shifted, data):
        counts = AddedEffects(np.ones((400, 6), int), *list(vars(shifted).values())[1:])
        cells = np.flatnonzero(data.batches == "b")
        assert np.abs(counts(cells, "c") % 1).max() > 0.1


class TestMeanOfOtherContexts:
    @staticmethod
    def fitted(data):
        cells = data.expression, data.batches, data.labels
        return MeanOfOtherContexts(*cells, *observed_means(*cells))

    @pytest.mark.parametrize("target", BATCHES)
    def test_is_the_mean_over_the_other_types_with_cells_in_both(self, data, target):
        means = pd.DataFrame(data.expression).groupby([data.batches, data.labels]).mean()
        shifted = self.fitted(data)
        for (source, label), cells in pd.Series(range(400)).groupby([data.batches, data.labels]):
            others = [
                means.loc[target, other] - means.loc[source, other]
                for other in TYPES
                if other != label and {(target, other), (source, other)} <= set(means.index)
            ]
            # Batch a has no type z.
            assert len(others) == (1 if "a" in (source, target) and label != "z" else 2)
            moved = shifted(cells.to_numpy(), target) - data.expression[cells]
            np.testing.assert_allclose(moved, np.tile(np.mean(others, 0), (len(cells), 1)))

    def test_without_another_type_nothing_is_added(self, data):
        only = SimpleNamespace(
            expression=data.expression, batches=data.batches, labels=np.full(400, "x", object)
        )
        cells = np.flatnonzero(data.batches == "b")
        np.testing.assert_array_equal(self.fitted(only)(cells, "c"), data.expression[cells])


class TestHarmonyClusters:
    def test_stand_for_the_types(self):
        data = draw(n_cells=900, n_genes=20, batch_sd=0.3, interaction_sd=0, noise=0.3)
        clusters = _harmony_clusters(data.expression, data.batches)
        np.testing.assert_array_equal(clusters, _harmony_clusters(data.expression, data.batches))
        # Of one type each, and of several batches, unlike a clustering of the expression.
        assert pd.crosstab(clusters, data.labels, normalize="index").max(axis=1).min() > 0.95
        assert pd.crosstab(clusters, data.batches, normalize="index").max(axis=1).mean() < 0.7
        truth = data.effects.to_numpy()[1:] - data.effects.to_numpy()[0]
        found = {
            "clusters": least_squares(data.expression, data.batches, clusters),
            "nothing": fit_by(additive, data),
        }
        errors = {
            name: np.square(differences(effects) - truth).sum() / np.square(truth).sum()
            for name, effects in found.items()
        }
        assert errors["clusters"] < 0.1
        assert errors["nothing"] > 0.5

    def test_either_orientation_of_the_corrected_space_will_do(self, data, monkeypatch):
        import harmonypy

        def without_correction(transpose):
            def run_harmony(components, *_, **__):
                return SimpleNamespace(Z_corr=components.T if transpose else components)

            monkeypatch.setattr(harmonypy, "run_harmony", run_harmony)
            return _harmony_clusters(data.expression, data.batches)

        np.testing.assert_array_equal(without_correction(True), without_correction(False))


class TestBaselines:
    @pytest.fixture
    def train(self, data):
        return np.sort(np.random.default_rng(1).permutation(len(data.batches))[:250])

    @pytest.fixture(autouse=True)
    def clusters(self, train, monkeypatch):
        """Stand for those of Harmony, which need not be installed."""
        clusters = np.random.default_rng(2).integers(3, size=len(train))
        monkeypatch.setattr(_baselines, "_harmony_clusters", lambda expression, batches: clusters)
        return clusters

    @pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
    def test_each_is_fitted_to_the_training_cells(self, data, train, clusters, container):
        expression = np.abs(data.expression)
        methods = baselines(container(expression), data.batches, data.labels, train)
        known, labels = (expression[train], data.batches[train]), data.labels[train]
        found = clusters.astype(str)
        expected = {
            "additive": (labels, additive),
            "mean of other contexts": (labels, observed_means),
            "least squares (given cell types)": (labels, least_squares),
            "mixed model (given cell types)": (labels, mixed_model),
            "least squares (Harmony clusters)": (found, least_squares),
            "mixed model (Harmony clusters)": (found, mixed_model),
        }
        assert list(methods) == list(expected)
        some = np.arange(50, 100)
        for name, (groups, fit) in expected.items():
            result = methods[name](train[some], "c")
            counterfactual = MeanOfOtherContexts if fit is observed_means else AddedEffects
            shifted = counterfactual(*known, groups, *fit(*known, groups))(some, "c")
            np.testing.assert_allclose(result, shifted, atol=1e-10)

    def test_other_cells_have_no_say(self, data, train):
        others = np.setdiff1d(np.arange(len(data.batches)), train)
        changed = data.expression.copy()
        changed[others] += 100 * np.random.default_rng(0).random(changed[others].shape)
        shifts = []
        for expression in (data.expression, changed):
            methods = baselines(expression, data.batches, data.labels, train)
            shifts.append([f(train, "c") - expression[train] for f in methods.values()])
        np.testing.assert_allclose(*shifts, atol=1e-10)
        assert np.abs(shifts[0]).max() > 0.5
