"""Simulated data and their truth against independent computations."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from scmedal_tools.datasets import _expectation, _simulated, simulated, true_shift

SIZE = {"n_donors": 4, "n_genes": 150, "n_cell_types": 3}


@pytest.fixture(scope="module")
def adata():
    return simulated(**SIZE, seed=3)


@pytest.fixture(scope="module")
def many_donors():
    return simulated(n_donors=30, n_genes=20, n_cell_types=4, seed=1)


@pytest.fixture(scope="module")
def drawn():
    """Genes and cells of a small simulation, with all its hidden states."""
    rng = np.random.default_rng(0)
    is_disease = np.array([False, False, True, True])
    genes = _simulated._draw_genes(rng, is_disease, 150, 3, 0.3, 1.0)
    _, _, depth, state = _simulated._draw_cells(rng, np.array([[10, 0, 0], [0, 10, 0]]))
    return genes, depth, state


def cramers_v(table: pd.DataFrame) -> float:
    return stats.contingency.association(table, method="cramer")


def log_normalised_moments(counts, depth):
    """Mean over draws and cells of log1p(1e4 y / depth), and the standard error of that mean."""
    values = np.log1p(1e4 * counts / depth[:, None])
    per_draw = values.mean(axis=1)
    return per_draw.mean(axis=0), per_draw.std(axis=0, ddof=1) / np.sqrt(len(counts))


class TestData:
    def test_holds_raw_counts_and_labels(self, adata):
        assert sparse.isspmatrix_csr(adata.X)
        assert adata.X.dtype == np.float32
        assert (adata.X.data >= 1).all()
        assert (adata.X.data == np.round(adata.X.data)).all()
        for column in ("donor", "condition", "cell_type"):
            assert isinstance(adata.obs[column].dtype, pd.CategoricalDtype)
        assert adata.obs_names.is_unique
        assert adata.shape[1] == 150

    def test_donors_are_nested_in_conditions(self, many_donors):
        table = pd.crosstab(many_donors.obs["donor"], many_donors.obs["condition"])
        assert ((table > 0).sum(axis=1) == 1).all()
        assert (table > 0).sum(axis=0).tolist() == [15, 15]

    def test_donors_have_30_to_600_cells_of_different_number(self, many_donors):
        sizes = many_donors.obs["donor"].value_counts()
        assert sizes.between(30, 600).all()
        assert sizes.max() > 2 * sizes.min()

    @pytest.mark.slow
    @pytest.mark.parametrize("scale", [0.5, 3.0])
    def test_cell_scale_multiplies_every_donors_cells(self, scale):
        sizes, scaled = (
            simulated(6, 20, 2, cell_scale=factor).obs["donor"].value_counts(sort=False)
            for factor in (1.0, scale)
        )
        assert ((scaled - scale * sizes).abs() <= max(1, scale)).all()  # rounded down

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_share_of_genes_without_effect(self, share):
        has_effect = simulated(**SIZE, share_without_effect=share).var["has_effect"]
        assert has_effect.dtype == bool
        assert (~has_effect).sum() == round(150 * share)

    @pytest.mark.slow
    def test_confounding_ties_cell_types_to_conditions(self):
        associations = []
        for confounding in (0.0, 0.5, 1.0):
            obs = simulated(10, 20, 5, confounding=confounding, seed=2).obs
            associations.append(cramers_v(pd.crosstab(obs["condition"], obs["cell_type"])))
        assert associations[0] < 0.02
        assert associations[0] + 0.2 < associations[1] < associations[2] - 0.1

    def test_without_confounding_every_donor_has_the_same_uneven_shares(self):
        obs = simulated(8, 20, 4, confounding=0.0, seed=2).obs
        table = pd.crosstab(obs["donor"], obs["cell_type"])
        shares = table.div(table.sum(axis=1), axis=0)
        rounding = 1 / table.sum(axis=1).min()
        assert (shares.max() - shares.min()).max() <= 2 * rounding
        assert shares.mean().max() > 2 * shares.mean().min()

    @pytest.mark.slow
    def test_same_seed_gives_the_same_data(self, adata):
        again, other = simulated(**SIZE, seed=3), simulated(**SIZE, seed=4)
        for one, two in zip(
            (adata.X.data, adata.X.indices, adata.varm["true_expression"].to_numpy()),
            (again.X.data, again.X.indices, again.varm["true_expression"].to_numpy()),
            strict=True,
        ):
            assert one.tobytes() == two.tobytes()
        pd.testing.assert_frame_equal(adata.obs, again.obs)
        assert adata.X.data.tobytes() != other.X.data.tobytes()

    def test_global_random_state_is_neither_used_nor_changed(self, adata):
        np.random.seed(5)
        expected = np.random.random(3)
        np.random.seed(5)
        again = simulated(**SIZE, seed=3)
        np.testing.assert_array_equal(np.random.random(3), expected)
        np.testing.assert_array_equal(adata.X.data, again.X.data)

    @pytest.mark.parametrize(
        ("argument", "value"),
        [
            ("n_donors", 3),
            ("n_genes", 10),
            ("n_cell_types", 1),
            ("confounding", -0.1),
            ("confounding", 1.5),
            ("confounding", np.nan),
            ("share_without_effect", 1.0),
            ("effect_scale", -1.0),
            ("cell_scale", 0.1),
        ],
    )
    def test_bad_argument_is_named(self, argument, value):
        with pytest.raises(ValueError, match=f"{argument}=.*pass a value"):
            simulated(**{**SIZE, argument: value})


class TestModel:
    @pytest.mark.slow
    def test_counts_are_negative_binomial(self, monkeypatch):
        """Cells of one state and depth, so that nothing else adds to the variance."""
        fixed = {"programme_sd": 0.0, "log_depth_sd_cells": 1e-4, "log_cells_mean": 10.0}
        constants = _simulated.Constants(**fixed, log_depth_sd_donors=0.0)
        monkeypatch.setattr(_simulated, "CONSTANTS", constants)
        adata = simulated(40, 20, 2, confounding=0.0, effect_scale=0.0)
        counts = adata[adata.obs["cell_type"] == "type_1"].X.toarray()
        mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
        assert np.isclose(mean.sum(), np.exp(constants.log_depth_mean), rtol=0.02)
        phi = (variance - mean)[mean > 1] / mean[mean > 1] ** 2
        quantiles = stats.norm.ppf((np.arange(12) + 0.5) / 12)
        levels = constants.log_phi_mean + constants.log_phi_sd * quantiles
        distance = np.abs(np.log(phi)[:, None] - levels).min(axis=1)
        # levels are 0.2 apart in the middle; with > 5,000 cells phi is known to a few per cent
        assert len(phi) > 10
        assert np.median(distance) < 0.05
        assert (phi > 0.1).all()

    def test_proportions_sum_to_one_in_every_donor(self, drawn):
        genes, _, state = drawn
        for donor in range(4):
            rates = np.exp(genes.log_rates(1, donor, state))
            np.testing.assert_allclose(rates.sum(axis=1), 1)

    def test_effects_are_the_log_ratios_of_two_donors(self, drawn):
        """Up to one number per cell, which keeps the proportions' sum."""
        genes, _, state = drawn
        ratio = genes.log_rates(1, 3, state) - genes.log_rates(1, 0, state)
        np.testing.assert_allclose(ratio[:, ~genes.has_effect], 0, atol=1e-12)
        effect = (genes.effects[3, 1] - genes.effects[0, 1])[genes.has_effect]
        offset = ratio[:, genes.has_effect] - effect
        np.testing.assert_allclose(offset, offset[:, :1] * np.ones_like(offset), atol=1e-10)
        assert effect.std() > 0.3

    def test_cell_types_differ_and_neighbours_are_alike(self):
        rng = np.random.default_rng(0)
        profiles = _simulated._type_profiles(rng, 5, 5000)
        correlation = np.corrcoef(profiles)
        expected = _simulated.CONSTANTS.type_correlation ** np.abs(
            np.subtract.outer(range(5), range(5))
        )
        np.testing.assert_allclose(correlation, expected, atol=0.1)
        assert np.isclose(profiles.std(), _simulated.CONSTANTS.type_sd, rtol=0.1)

    def test_cells_of_a_type_differ_continuously(self, drawn):
        genes, _, state = drawn
        rates = genes.log_rates(0, 0, state)
        spread = rates.std(axis=0, ddof=1).mean()
        assert 0.1 < spread < 0.3


class TestTruth:
    @pytest.mark.parametrize("theta", [0.2, 1.0, 8.0])
    @pytest.mark.parametrize("scale", [2.0, 150.0])
    def test_expected_log1p_matches_the_sum_over_the_pmf(self, theta, scale):
        mean = np.array([1e-4, 0.1, 2.0, 50.0])
        y = np.arange(20_000)
        pmf = stats.nbinom.pmf(y, theta, theta / (theta + mean[:, None]))
        expected = (pmf * np.log1p(scale * y)).sum(axis=1)
        np.testing.assert_allclose(
            _expectation.expected_log1p(mean, theta, scale), expected, rtol=1e-6
        )

    @pytest.mark.slow
    def test_matches_monte_carlo_in_any_donor(self, drawn):
        genes, depth, state = drawn
        truth = _expectation.ExpectedExpression(genes, depth)(2, depth, state)
        rng = np.random.default_rng(1)
        theta = genes.theta[genes.level]
        by_total = []
        for donor in (0, 3):
            mean = depth[:, None] * np.exp(genes.log_rates(2, donor, state))
            counts = stats.nbinom.rvs(
                theta, theta / (theta + mean), size=(2000, *mean.shape), random_state=rng
            )
            simulated_mean, error = log_normalised_moments(counts, depth)
            # 0.002 allows for the lookup table
            deviation = np.abs(simulated_mean - truth[donor]) - 0.002
            assert (deviation < 4.5 * error).all()
            assert np.median(error) < 0.015
            totals = counts.sum(axis=2, keepdims=True)
            by_total.append(np.log1p(1e4 * counts / totals).mean(axis=(0, 1)))
        # observed instead of expected totals hardly matter for a shift
        shift, by_total = truth[3] - truth[0], by_total[1] - by_total[0]
        assert np.linalg.norm(by_total - shift) < 0.05 * np.linalg.norm(shift)

    def test_matches_the_average_of_the_simulated_cells(self):
        """Column ``type|A|A`` is the expectation of the group's log-normalised mean."""
        adata = simulated(4, 600, 3)
        scores = []
        totals = adata.X.sum(axis=1).A1
        expression = np.log1p(1e4 * adata.X.toarray() / totals[:, None])
        groups = adata.obs.groupby(["cell_type", "donor"], observed=True).indices
        for (cell_type, donor), rows in groups.items():
            if len(rows) < 20:
                continue
            observed = expression[rows]
            expected = adata.varm["true_expression"][f"{cell_type}|{donor}|{donor}"].to_numpy()
            error = observed.std(axis=0, ddof=1) / np.sqrt(len(rows))
            common = (observed > 0).sum(axis=0) >= 10
            scores.append((observed.mean(axis=0) - expected)[common] / error[common])
        scores = np.concatenate(scores)
        assert len(scores) > 500
        # below 1, as depths and states, which vary between cells, are given
        assert 0.5 < np.sqrt(np.mean(scores**2)) < 1.1
        assert abs(scores.mean()) < 0.15

    def test_is_zero_for_genes_without_effect_and_for_the_same_donor(self, adata):
        shift = true_shift(adata, "type_1", "donor_01", "donor_03")
        has_effect = adata.var["has_effect"]
        assert (shift[~has_effect] == 0).all()
        assert (shift[has_effect] != 0).all()
        assert (true_shift(adata, "type_1", "donor_01", "donor_01") == 0).all()

    def test_depends_on_the_cell_type(self, adata):
        one, two = (
            true_shift(adata, name, "donor_01", "donor_02") for name in ("type_1", "type_2")
        )
        assert 0.2 < np.corrcoef(one, two)[0, 1] < 0.95

    @pytest.mark.slow
    def test_is_larger_between_conditions(self):
        adata = simulated(12, 400, 2, confounding=0.0)
        condition = adata.obs.groupby("donor", observed=True)["condition"].first()
        sizes = {True: [], False: []}
        for i, source in enumerate(condition.index):
            for target in condition.index[:i]:
                shift = true_shift(adata, "type_1", source, target)
                sizes[condition[source] == condition[target]].append((shift**2).mean())
        assert np.mean(sizes[False]) > 1.15 * np.mean(sizes[True])

    def test_no_effects_no_shift(self):
        adata = simulated(**SIZE, effect_scale=0.0)
        shift = true_shift(adata, "type_1", "donor_01", "donor_03")
        np.testing.assert_allclose(shift, 0, atol=1e-6)

    def test_grows_with_the_effect_scale(self):
        norms = [
            np.linalg.norm(
                true_shift(simulated(**SIZE, effect_scale=scale), "type_1", "donor_01", "donor_03")
            )
            for scale in (0.5, 1.0)
        ]
        assert 1.6 < norms[1] / norms[0] < 2.2

    def test_survives_subsetting_and_a_file(self, adata, tmp_path):
        full = true_shift(adata, "type_2", "donor_02", "donor_04")
        genes = adata.var_names[[40, 3, 77]]
        subset = adata[adata.obs["donor"] == "donor_01", genes]
        subset.copy().write_h5ad(tmp_path / "subset.h5ad")
        read = ad.read_h5ad(tmp_path / "subset.h5ad")
        for data in (subset, read):
            shift = true_shift(data, "type_2", "donor_02", "donor_04")
            pd.testing.assert_series_equal(shift, full[genes], check_names=False)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("unknown", "donor_01", "donor_02"),
            ("type_1", "unknown", "donor_02"),
            ("type_1", "donor_01", "unknown"),
        ],
    )
    def test_unknown_name_is_reported_with_the_known_ones(self, adata, arguments):
        with pytest.raises(KeyError, match=r"'unknown'.*choose from.*_01|type_1"):
            true_shift(adata, *arguments)

    def test_other_data_have_no_truth(self):
        with pytest.raises(KeyError, match="simulated"):
            true_shift(ad.AnnData(np.ones((2, 2))), "type_1", "donor_01", "donor_02")

    def test_type_that_the_source_lacks(self):
        adata = simulated(12, 20, 8, confounding=1.0, seed=0)
        table = pd.crosstab(adata.obs["donor"], adata.obs["cell_type"])
        donor, cell_type = next(
            (donor, name) for donor in table.index for name in table if table.loc[donor, name] == 0
        )
        having = table.index[table[cell_type] > 0][0]
        with pytest.raises(ValueError, match=f"{donor}.*no cells of.*{cell_type}.*{having}"):
            true_shift(adata, cell_type, donor, having)
        assert np.isfinite(true_shift(adata, cell_type, having, donor)).all()
