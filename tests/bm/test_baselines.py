"""The baselines against computations on single cells with numpy, pandas and scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LinearRegression

from scmedal_tools.bm import _baselines
from scmedal_tools.bm._baselines import (
    PENALTIES,
    AddedEffects,
    Groups,
    additive,
    baselines,
    blup,
    harmony_clusters,
    least_squares,
    solve_mixed_model,
    tuned_penalties,
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


def grouped(data):
    return Groups.of(data.expression, data.batches, data.labels)


def differences(effects):
    """All batches minus the first."""
    return effects.to_numpy()[1:] - effects.to_numpy()[0]


def henderson(data, batch_penalty, interaction_penalty):
    """Mixed-model equations with an unknown for every type, batch and combination, on cells."""
    combinations = pd.Series(data.batches + "|" + data.labels)
    fixed, batch, both = (
        pd.get_dummies(pd.Series(column), dtype=float)
        for column in (data.labels, data.batches, combinations)
    )
    design = np.hstack([fixed, batch, both])
    sizes = fixed.shape[1], batch.shape[1], both.shape[1]
    ridge = np.repeat([0.0, batch_penalty, interaction_penalty], sizes)
    solution = np.linalg.solve(design.T @ design + np.diag(ridge), design.T @ data.expression)
    parts = np.split(solution, np.cumsum(sizes)[:-1])
    return [
        pd.DataFrame(part, index=columns)
        for part, columns in zip(parts, (fixed.columns, batch.columns, both.columns), strict=True)
    ]


class TestGroups:
    def test_means_and_sizes_are_those_of_the_cells(self, data):
        groups = grouped(data)
        by = pd.DataFrame(data.expression).groupby([data.batches, data.labels])
        names = zip(groups.batch, groups.group, strict=True)
        keys = [(groups.batch_names[i], groups.group_names[j]) for i, j in names]
        assert sorted(keys) == list(by.groups)
        assert len(keys) == 4 * 3 - 1
        np.testing.assert_allclose(groups.means, by.mean().loc[keys], atol=1e-10)
        np.testing.assert_array_equal(groups.sizes, by.size().loc[keys])


class TestAdditive:
    def test_effects_are_the_means_of_the_batches(self, data):
        effects, interactions = additive(data.expression, data.batches)
        expected = pd.DataFrame(data.expression).groupby(data.batches).mean()
        assert list(effects.index) == list(expected.index)
        np.testing.assert_allclose(effects, expected, atol=1e-10)
        assert interactions == {}


class TestLeastSquares:
    def test_differences_are_those_of_a_fit_to_the_cells(self, data):
        effects, interactions = fit_by(least_squares, data)
        obs = pd.DataFrame({"batch": data.batches, "type": data.labels})
        design = pd.get_dummies(obs, drop_first=True, dtype=float)
        assert list(design)[:3] == ["batch_b", "batch_c", "batch_d"]
        by_sklearn = LinearRegression().fit(design.to_numpy(), data.expression).coef_.T[:3]
        full = np.hstack([np.ones((len(design), 1)), design])
        by_numpy = np.linalg.lstsq(full, data.expression, rcond=None)[0][1:4]
        np.testing.assert_allclose(differences(effects), by_sklearn, atol=1e-8)
        np.testing.assert_allclose(differences(effects), by_numpy, atol=1e-8)
        assert list(effects.index) == BATCHES
        assert interactions == {}

    def test_confounding_does_not_mislead_it_as_it_does_the_means(self):
        data = draw(interaction_sd=0, noise=0)
        truth = differences(data.effects)
        np.testing.assert_allclose(differences(fit_by(least_squares, data)[0]), truth, atol=1e-8)
        means, _ = additive(data.expression, data.batches)
        assert np.abs(differences(means) - truth).max() > 0.5


class TestMixedModel:
    @pytest.mark.parametrize("penalties", [(1.0, 3.0), (100.0, 0.5), (0.1, 1000.0), (7.0, 7.0)])
    def test_solves_hendersons_equations_of_the_cells(self, data, penalties):
        groups = grouped(data)
        coefficients, interactions = solve_mixed_model(groups, *penalties)
        types, batches, both = henderson(data, *penalties)
        assert [*groups.batch_names, *groups.group_names] == [*batches.index, *types.index]
        np.testing.assert_allclose(coefficients, np.vstack([batches, types]), atol=1e-5)
        names = zip(groups.batch, groups.group, strict=True)
        keys = [f"{groups.batch_names[i]}|{groups.group_names[j]}" for i, j in names]
        np.testing.assert_allclose(interactions, both.loc[keys], atol=1e-5)
        assert np.abs(interactions).max() > 1e-3

    def test_is_least_squares_where_only_batches_are_free(self, data):
        coefficients, interactions = solve_mixed_model(grouped(data), 1e-5, 1e9)
        expected = differences(fit_by(least_squares, data)[0])
        np.testing.assert_allclose(coefficients[1:4] - coefficients[0], expected, atol=1e-4)
        np.testing.assert_allclose(interactions, 0, atol=1e-5)

    def test_is_least_squares_on_unweighted_means_where_interactions_are_free(self, data):
        groups = grouped(data)
        coefficients, interactions = solve_mixed_model(groups, 1e-5, 1e-2)
        design = np.delete(groups.design, 0, axis=1)
        fitted = LinearRegression(fit_intercept=False).fit(design, groups.means).coef_.T[:3]
        np.testing.assert_allclose(coefficients[1:4] - coefficients[0], fitted, atol=1e-2)
        # Every combination keeps its own mean.
        total = groups.design @ coefficients + interactions
        np.testing.assert_allclose(total, groups.means, atol=1e-2)

    def test_batches_have_no_effect_where_they_may_not_have_one(self, data):
        coefficients, interactions = solve_mixed_model(grouped(data), 1e9, 1e9)
        np.testing.assert_allclose(coefficients[:4], 0, atol=1e-5)
        np.testing.assert_allclose(interactions, 0, atol=1e-5)
        of_types = pd.DataFrame(data.expression).groupby(data.labels).mean()
        np.testing.assert_allclose(coefficients[4:], of_types, atol=1e-5)

    def test_blup_names_what_the_tuned_model_predicts(self, data):
        effects, interactions = fit_by(blup, data)
        _, batches, both = henderson(data, *fit_by(tuned_penalties, data))
        assert list(effects.index) == list(batches.index)
        np.testing.assert_allclose(effects, batches, atol=1e-5)
        assert {"|".join(key) for key in interactions} == set(both.index)
        for key, effect in interactions.items():
            np.testing.assert_allclose(effect, both.loc["|".join(key)], atol=1e-5)


class TestTuning:
    """With 8 batches, 3 types, and some 100 cells of unit variance in each combination."""

    def tune(self, batch_sd, interaction_sd):
        sizes = {"n_cells": 2400, "n_genes": 40, "n_batches": 8}
        effects = {"batch_sd": batch_sd, "interaction_sd": interaction_sd}
        return fit_by(tuned_penalties, draw(noise=1.0, **sizes, **effects))

    def test_no_interactions_are_not_believed_in(self):
        _, interaction_penalty = self.tune(batch_sd=1, interaction_sd=0)
        assert interaction_penalty >= 300

    def test_large_interactions_are(self):
        # sigma^2 / tau^2 = 1.
        _, interaction_penalty = self.tune(batch_sd=1, interaction_sd=1)
        assert interaction_penalty <= 3

    def test_small_interactions_are_shrunken_more_than_large_ones(self):
        large, small = (self.tune(batch_sd=1, interaction_sd=sd)[1] for sd in (1, 0.1))
        assert small > large

    def test_batches_without_effect_are_shrunken(self):
        batch_penalty, _ = self.tune(batch_sd=0, interaction_sd=0)
        assert batch_penalty == max(PENALTIES)

    def test_combinations_held_out_are_not_known(self):
        # Interactions that the model had seen would look like effects of the batches.
        batch_penalty, _ = self.tune(batch_sd=0, interaction_sd=0.5)
        assert batch_penalty >= 100

    def test_large_batch_effects_are_not(self):
        batch_penalty, _ = self.tune(batch_sd=3, interaction_sd=0)
        assert batch_penalty <= 10

    @pytest.mark.parametrize("n_cells", [20, 60])
    def test_few_cells_are_no_error(self, n_cells):
        assert set(fit_by(tuned_penalties, draw(n_cells=n_cells))) <= set(PENALTIES)


class TestAddedEffects:
    @pytest.fixture
    def shifted(self, data):
        interactions = {("b", "x"): np.arange(6.0), ("c", "y"): np.full(6, -2.0)}
        return AddedEffects(
            data.expression.copy(), data.batches, data.labels, data.effects, interactions
        )

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
            own, label = data.batches[cell], data.labels[cell]
            shift = data.effects.loc[target] - data.effects.loc[own]
            shift = shift + shifted.interactions.get((target, label), np.zeros(6))
            shift = shift - shifted.interactions.get((own, label), np.zeros(6))
            np.testing.assert_allclose(result[i], data.expression[cell] + shift, atol=1e-12)
        np.testing.assert_array_equal(shifted.expression, data.expression)


class TestHarmonyClusters:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("harmonypy")

    def test_stand_for_the_types(self):
        data = draw(n_cells=900, n_genes=20, batch_sd=0.3, interaction_sd=0, noise=0.3)
        clusters = harmony_clusters(data.expression, data.batches)
        np.testing.assert_array_equal(clusters, harmony_clusters(data.expression, data.batches))
        # Of one type each, and of several batches, unlike a clustering of the expression.
        assert pd.crosstab(clusters, data.labels, normalize="index").max(axis=1).min() > 0.95
        assert pd.crosstab(clusters, data.batches, normalize="index").max(axis=1).mean() < 0.7
        truth = differences(data.effects)
        found = {
            "clusters": least_squares(data.expression, data.batches, clusters)[0],
            "nothing": additive(data.expression, data.batches)[0],
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
            return harmony_clusters(data.expression, data.batches)

        np.testing.assert_array_equal(without_correction(True), without_correction(False))


class TestBaselines:
    @pytest.fixture
    def train(self, data):
        return np.sort(np.random.default_rng(1).permutation(len(data.batches))[:250])

    @pytest.fixture(autouse=True)
    def clusters(self, train, monkeypatch):
        """Stand for those of Harmony, which need not be installed."""
        clusters = np.random.default_rng(2).integers(3, size=len(train))
        monkeypatch.setattr(_baselines, "harmony_clusters", lambda expression, batches: clusters)
        monkeypatch.setattr(_baselines, "find_spec", lambda name: True)
        return clusters

    @pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
    def test_each_is_fitted_to_the_training_cells(self, data, train, clusters, container):
        expression = np.abs(data.expression)
        methods = baselines(container(expression), data.batches, data.labels, train)
        known, labels = (expression[train], data.batches[train]), data.labels[train]
        found = clusters.astype(str)
        expected = {
            "additive": (labels, additive(*known)),
            "least squares (told the types)": (labels, least_squares(*known, labels)),
            "BLUP (told the types)": (labels, blup(*known, labels)),
            "least squares (Harmony clusters)": (found, least_squares(*known, found)),
            "BLUP (Harmony clusters)": (found, blup(*known, found)),
        }
        assert list(methods) == list(expected)
        some = np.arange(50, 100)
        for name, (groups, effects) in expected.items():
            result = methods[name](train[some], "c")
            shifted = AddedEffects(*known, groups, *effects)(some, "c")
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

    def test_without_harmony_the_others_remain(self, data, train, monkeypatch):
        monkeypatch.setattr(_baselines, "find_spec", lambda name: None)
        with pytest.warns(UserWarning, match=r"Harmony.*left out, as harmonypy is missing"):
            methods = baselines(data.expression, data.batches, data.labels, train)
        assert len(methods) == 3
        assert not any("Harmony" in name for name in methods)
