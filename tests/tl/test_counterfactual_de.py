"""Gene tests against scipy, statsmodels and the balanced mixed model's closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import stats
from statsmodels.stats.multitest import multipletests

from scmedal_tools import tl
from scmedal_tools.tl import _group_tests

QUIET = {"n_samples": 3, "progress": False}
IN_GROUP = np.arange(9) < 4


@pytest.fixture(scope="module")
def model(cells, fit):
    return fit("SCMEDAL_RE", cells.copy(), max_epochs=5)


@pytest.fixture(scope="module")
def table(model):
    return tl.counterfactual_de(model, model.adata, "condition", 50, seed=1, **QUIET)


def projected(model, n_cells, seed, **options):
    """The same cells in every donor, cells chosen independently of the code under test."""
    chosen = np.sort(np.random.default_rng(seed).permutation(model.adata.n_obs)[:n_cells])
    swapped = model.get_counterfactual_expression(
        indices=chosen, transform_batch=list(model.batch_names), **options
    )
    return {donor: x.to_numpy() if hasattr(x, "to_numpy") else x for donor, x in swapped.items()}


@pytest.fixture(scope="module")
def donor_means(model):
    """Control donors 1 and 2, disease donors 3 and 4."""
    return np.stack([x.astype(float).mean(0) for x in projected(model, 50, 1).values()])


class TestDonor:
    def test_is_students_t_of_the_donors_means(self, table, donor_means):
        expected = stats.ttest_ind(donor_means[2:], donor_means[:2])
        # The others have p-values of rounding errors.
        clear = np.minimum(donor_means[2:].std(0), donor_means[:2].std(0)) > 1e-4
        assert clear.sum() > 10
        for name, of_scipy in (("statistic", "statistic"), ("p_value", "pvalue"), ("df", "df")):
            values = getattr(expected, of_scipy)[clear]
            np.testing.assert_allclose(table[name][clear], values, rtol=0.02)

    def test_effects(self, table, donor_means):
        difference = donor_means[2:].mean(0) - donor_means[:2].mean(0)
        np.testing.assert_allclose(table["mean_group"], donor_means[2:].mean(0), atol=1e-5)
        np.testing.assert_allclose(table["log_fc"], difference, atol=1e-5)
        pooled = np.sqrt((donor_means[2:].var(0, ddof=1) + donor_means[:2].var(0, ddof=1)) / 2)
        clear = pooled > 1e-3
        d = (difference / pooled)[clear]
        np.testing.assert_allclose(table["cohens_d"][clear], d, rtol=0.02, atol=1e-3)

    def test_adjusted_is_that_of_statsmodels(self, table):
        expected = multipletests(table["p_value"], method="fdr_bh")[1]
        np.testing.assert_allclose(table["adj_p_value"], expected)

    def test_rubins_p_values_are_adjusted_too(self, table):
        expected = multipletests(table["p_value_rubin"], method="fdr_bh")[1]
        np.testing.assert_allclose(table["adj_p_value_rubin"], expected)

    def test_names(self, model, table):
        assert table.index.equals(model.gene_names)
        for name, value in {"group": "disease", "reference": "control", "n_group": 2}.items():
            assert set(table[name]) == {value}

    def test_posterior_sd_is_that_of_the_drawn_differences(self, model, table):
        draws = projected(model, 50, 1, n_samples=3, return_mean=False, return_numpy=True)
        draws = np.stack([x.mean(1) for x in draws.values()])
        difference = draws[2:].mean(0) - draws[:2].mean(0)
        np.testing.assert_allclose(table["posterior_sd"], difference.std(0, ddof=1), atol=1e-5)

    def test_group_against_reference(self, model, table):
        turned = tl.counterfactual_de(
            model, model.adata, "condition", 50, group="control", seed=1, **QUIET
        )
        np.testing.assert_allclose(turned["log_fc"], -table["log_fc"])
        np.testing.assert_allclose(turned["p_value"], table["p_value"])

    def test_cells_of_one_type(self, model):
        options = {"labels_key": "cell_type", "label": "type_2"}
        with pytest.warns(UserWarning, match="only .* cells of 'type_2': all are projected"):
            some = tl.counterfactual_de(model, model.adata, "condition", 1000, **options, **QUIET)
        cells = np.flatnonzero(model.adata.obs["cell_type"] == "type_2")
        x = model.get_counterfactual_expression(indices=cells, transform_batch="donor_03")
        y = model.get_counterfactual_expression(indices=cells, transform_batch="donor_04")
        expected = (x.mean() + y.mean()) / 2
        np.testing.assert_allclose(some["mean_group"], expected, atol=1e-5)

    def test_the_seed_chooses_the_cells(self, model, table):
        other = tl.counterfactual_de(model, model.adata, "condition", 50, seed=2, **QUIET)
        assert not np.allclose(other["mean_group"], table["mean_group"], atol=1e-3)

    @pytest.mark.slow
    def test_an_ensemble_averages(self, model, table, fit):
        other = fit("SCMEDAL_RE", model.adata.copy(), max_epochs=3)
        options = {"cells": 50, "seed": 1} | QUIET
        both = tl.counterfactual_de([model, other], model.adata, "condition", **options)
        alone = tl.counterfactual_de(other, model.adata.copy(), "condition", **options)
        expected = (table["log_fc"] + alone["log_fc"]) / 2
        np.testing.assert_allclose(both["log_fc"], expected, atol=1e-6)

    def test_pixels(self, model):
        layout = pd.DataFrame({"row": range(60), "column": 3}, model.gene_names[::-1])
        found = tl.counterfactual_de(
            model, model.adata, "condition", 5, layout=layout.assign(more=0), **QUIET
        )
        assert list(found["row"]) == list(range(60))[::-1]
        assert list(found.columns[-2:]) == ["row", "column"]
        as_kept = {"pixels": layout, "shape": [60, 4]}
        again = tl.counterfactual_de(model, model.adata, "condition", 5, layout=as_kept, **QUIET)
        pd.testing.assert_frame_equal(again[["row", "column"]], found[["row", "column"]])

    def test_genes_without_a_pixel_have_none(self, model):
        """As with the layout of a part of the genes that ``scmedal run`` fits."""
        layout = pd.DataFrame({"row": range(20), "column": 3}, model.gene_names[::3])
        found = tl.counterfactual_de(model, model.adata, "condition", 5, layout=layout, **QUIET)
        assert found["row"].notna().tolist() == [True, False, False] * 20
        images = tl.genomap_images(model.adata, layout=found)
        assert images.shape == (240, 20, 4)
        np.testing.assert_array_equal(images[0][:, 3], model.adata.to_df().iloc[0, ::3])


class TestMannWhitney:
    def test_is_scipys_gene_by_gene_also_beside_ties(self):
        means = np.random.default_rng(0).normal(size=(9, 20))
        means[:, 3] = 1.0
        means[:5, 4] = 0.5
        found = _group_tests.mann_whitney(means, IN_GROUP)
        for gene, x in enumerate(means.T):
            expected = stats.mannwhitneyu(x[:4], x[4:])
            assert found["p_value"][gene] == pytest.approx(expected.pvalue, nan_ok=True)
            assert found["statistic"][gene] == expected.statistic
            pairs = np.sign(x[:4, None] - x[4:]).mean()
            assert found["rank_biserial"][gene] == pytest.approx(pairs)

    def test_of_projections(self, model, donor_means):
        with pytest.warns(UserWarning, match=r"2 against 2 donors no p-value .* below 0\.33"):
            found = tl.counterfactual_de(
                model, model.adata, "condition", 50, "mannwhitney", seed=1, **QUIET
            )
        clear = np.ptp(donor_means, axis=0) > 1e-3
        expected = stats.mannwhitneyu(donor_means[2:], donor_means[:2]).pvalue
        np.testing.assert_allclose(found["p_value"][clear], expected[clear])


class TestMixedModels:
    @pytest.mark.parametrize("donor_sd", [1.0, 0.0])
    def test_are_those_of_the_closed_form(self, donor_sd):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(9, 30, 3)) + donor_sd * rng.normal(size=(9, 1, 3))
        x[IN_GROUP] += 0.5
        if donor_sd == 0:  # The donors' means are closer than chance: the boundary.
            x -= 0.7 * (x.mean(1, keepdims=True) - x[:, :].mean(1).mean(0))
        found = _group_tests.mixed_models(x, IN_GROUP, n_jobs=1, progress=False)
        means = x.mean(1)
        deviations = np.where(
            IN_GROUP[:, None], means - means[IN_GROUP].mean(0), means - means[~IN_GROUP].mean(0)
        )
        between = 30 * np.square(deviations).sum(0)
        within = np.square(x - means[:, None]).sum((0, 1))
        pooled = (between + within) / (9 * 30 - 2)
        variance = np.where(between / 7 > within / (9 * 29), between / 7, pooled) / 30
        se = np.sqrt(variance * (1 / 4 + 1 / 5))
        z = (means[IN_GROUP].mean(0) - means[~IN_GROUP].mean(0)) / se
        np.testing.assert_allclose(found["se"], se, rtol=1e-3)
        np.testing.assert_allclose(found["statistic"], z, rtol=1e-3)
        np.testing.assert_allclose(found["p_value"], 2 * stats.norm.sf(np.abs(z)), rtol=2e-2)

    def test_warns_and_leaves_out_genes_that_do_not_vary(self, model, monkeypatch):
        asked = []

        def fit(expression, in_group, genes, n_jobs, progress):
            asked.append((expression.shape, n_jobs))
            values = np.where(genes, 0.01, np.nan)
            return {"se": values, "statistic": values, "p_value": values}

        monkeypatch.setattr(tl._counterfactual_de, "mixed_models", fit)
        monkeypatch.setattr(tl._counterfactual_de, "differ", lambda means: np.arange(60) != 7)
        with pytest.warns(UserWarning, match="method='lme' are not calibrated.* 4 donors"):
            found = tl.counterfactual_de(
                model, model.adata, "condition", 5, "lme", n_jobs=1, **QUIET
            )
        assert asked == [((4, 5, 60), 1)]
        assert found["p_value"].iloc[7] == found["adj_p_value"].iloc[7] == 1
        assert found["p_value"].drop(found.index[7]).eq(0.01).all()


class TestRubin:
    def test_without_posterior_variance_is_a_t_test(self):
        means = np.random.default_rng(1).normal(size=(9, 5))
        noise = 1e-9 * np.random.default_rng(2).normal(size=(6, 9, 5))
        found = _group_tests.rubin(means + noise, IN_GROUP)
        statistic = stats.ttest_ind(means[:4], means[4:]).statistic
        df = (7 + 1) / (7 + 3) * 7
        np.testing.assert_allclose(found, 2 * stats.t.sf(np.abs(statistic), df), rtol=1e-5)

    def test_of_one_gene_by_hand(self):
        """Barnard and Rubin (1999), written out for five draws of six donors."""
        draws = np.random.default_rng(3).normal(size=(5, 6, 1)) + np.r_[2, 2, 0, 0, 0, 0][:, None]
        in_group = np.arange(6) < 2
        q, u = [], []
        for (values,) in draws.transpose(0, 2, 1):
            a, b = values[:2], values[2:]
            pooled = (a.var(ddof=1) * 1 + b.var(ddof=1) * 3) / 4
            q.append(a.mean() - b.mean())
            u.append(pooled * (1 / 2 + 1 / 4))
        added = (1 + 1 / 5) * np.sum((np.array(q) - np.mean(q)) ** 2) / 4
        total = np.mean(u) + added
        gamma = added / total
        assert gamma > 0.2
        old, observed = 4 / gamma**2, (4 + 1) / (4 + 3) * 4 * (1 - gamma)
        df = old * observed / (old + observed)
        expected = 2 * stats.t.cdf(-abs(np.mean(q)) / np.sqrt(total), df)
        np.testing.assert_allclose(_group_tests.rubin(draws, in_group), [expected], rtol=1e-10)

    def test_posterior_variance_makes_p_values_larger(self):
        rng = np.random.default_rng(1)
        means = rng.normal(size=(9, 50)) + 2 * IN_GROUP[:, None]
        draws = means + rng.normal(size=(40, 9, 50))
        larger = (
            _group_tests.rubin(draws, IN_GROUP) > _group_tests.student(means, IN_GROUP)["p_value"]
        )
        assert larger.mean() > 0.9


@pytest.mark.parametrize("n_group", [2, 3, 6])
def test_null_p_values_of_donors_are_calibrated(n_group):
    """Donors of unequal size, shrunken accordingly, in random groups."""
    rng = np.random.default_rng(0)
    shrinkage = rng.permuted(np.tile(np.linspace(0.1, 0.9, 12), (20_000, 1)), axis=1).T
    means = rng.normal(scale=np.sqrt(shrinkage))
    in_group = np.arange(12) < n_group
    assert 0.04 < np.mean(_group_tests.student(means, in_group)["p_value"] < 0.05) < 0.054
    assert np.mean(_group_tests.mann_whitney(means, in_group)["p_value"] < 0.05) < 0.055


class TestErrors:
    def test_group_varies_within_donors(self, model):
        with pytest.raises(ValueError, match=r"varies within 4 of the batches \(donor_01"):
            tl.counterfactual_de(model, model.adata, "cell_type")

    def test_one_donor_in_a_group(self, model):
        some = model.adata[model.adata.obs["donor"] != "donor_01"].copy()
        with pytest.raises(ValueError, match="Group 'control' has 1 donor: at least two"):
            tl.counterfactual_de(model, some, "condition")

    def test_more_than_two_groups(self, model):
        adata = model.adata.copy()
        adata.obs["site"] = [
            {"donor_01": "a", "donor_02": "b"}.get(donor, "c") for donor in adata.obs["donor"]
        ]
        with pytest.raises(ValueError, match=r"has 3 levels .* name them with group="):
            tl.counterfactual_de(model, adata, "site")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"method": "wilcoxon"}, "method='wilcoxon' is not one of"),
            ({"group": "ill"}, "group='ill' is not a level of 'condition'. Choose from 'control'"),
            ({"group": "control", "reference": "control"}, "name two groups"),
            ({"cells": 0}, "cells=0 has to be at least 1"),
            ({"n_samples": 1}, "n_samples=1 is too few"),
            ({"label": "type_1"}, "labels_key and label go together"),
            ({"labels_key": "cell_type", "label": "x"}, "no cell has it.*'type_1'"),
            ({"layout": pd.DataFrame({"row": []})}, "layout has no column 'column'"),
            ({"layout": pd.DataFrame({"row": [], "column": []})}, "layout has no pixels"),
            ({"layout": {"shape": (2, 2)}}, "layout has no column 'row'"),
            (
                {"layout": pd.DataFrame({"row": [1], "column": [1]}, ["?"])},
                "no pixel for any of 60 genes",
            ),
        ],
    )
    def test_arguments(self, model, options, message):
        with pytest.raises(ValueError, match=message):
            tl.counterfactual_de(model, model.adata, "condition", **options)

    def test_model_without_random_effects(self, cells, build):
        with pytest.raises(TypeError, match="no random effects"):
            tl.counterfactual_de(build("SCMEDAL_FE", cells.copy()), cells.copy(), "condition")


def test_same_seed_same_table(model, table):
    scvi.settings.seed = 0
    again = tl.counterfactual_de(model, model.adata, "condition", 50, seed=1, **QUIET)
    pd.testing.assert_frame_equal(again, table)
