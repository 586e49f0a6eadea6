"""Neighbourhoods with more cells of one group: calibrated over donors, and found."""

import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from scmedal_tools import tl
from scmedal_tools.tl._differential_abundance import compare, counts_of_donors, equally_many

N_DONORS, CENTRES = 10, 40


def counts(rng, extra=0.0, fewest=(100, 100)):
    """Cells of ten donors of unequal sizes in overlapping neighbourhoods on a line.

    Donors differ in where their cells are. The first five have ``extra`` of their cells at 2.
    ``fewest`` cells of donors of either half, of which some have four times as many.
    """
    sizes = np.repeat(fewest, N_DONORS // 2) * rng.integers(1, 5, N_DONORS)
    donor = np.repeat(np.arange(N_DONORS), sizes)
    x = rng.normal(rng.normal(0, 0.3, N_DONORS)[donor], 1)
    moved = (donor < 5) & (rng.random(len(donor)) < extra)
    x[moved] = rng.normal(2, 0.1, moved.sum())
    centres = np.linspace(-2, 2, CENTRES)
    neighbors = np.abs(x - centres[:, None]).argsort(1)[:, :60]
    return counts_of_donors(neighbors, donor, N_DONORS, equally_many(donor, 0))


@pytest.mark.slow
def test_null_donors_give_uniform_p_values():
    """Donors differ much, and the groups are drawn; cells as units would find differences."""
    rng, p, adjusted = np.random.default_rng(0), [], []
    for _ in range(60):
        found = compare(counts(rng), rng.permutation(N_DONORS) < 5, 252, 0)
        p.append(found.p_value[CENTRES // 2])
        adjusted.append(found.adj_p_value.min())
    assert kstest(p, "uniform").pvalue > 0.01
    assert kstest(adjusted, "uniform").pvalue > 0.01


@pytest.mark.slow
def test_donors_of_a_group_may_have_many_more_cells():
    """Shares of few cells vary more, and their square roots have another mean."""
    rng, in_group = np.random.default_rng(1), np.arange(N_DONORS) < 5
    adjusted = [
        compare(counts(rng, fewest=(40, 400)), in_group, 252, 0).adj_p_value.min()
        for _ in range(60)
    ]
    assert kstest(adjusted, "uniform").pvalue > 0.01


def test_equally_many_cells_of_every_donor():
    donor = np.repeat([0, 1, 2], [5, 50, 20])
    np.testing.assert_array_equal(np.bincount(donor[equally_many(donor, 0)]), [5, 5, 5])


def test_a_planted_enrichment_is_found_where_it_is():
    rng, in_group = np.random.default_rng(0), np.arange(N_DONORS) < 5
    found = compare(counts(rng, extra=0.25), in_group, 252, 0)
    at = np.linspace(-2, 2, CENTRES)
    assert found.adj_p_value[at > 1.9].max() < 0.05
    assert (found.statistic[at > 1.9] > 0).all()
    assert found.adj_p_value[at < 0].min() > 0.05


def test_p_values_are_shares_of_all_ways_by_hand():
    rng = np.random.default_rng(0)
    values = counts(rng)
    in_group = np.arange(N_DONORS) < 5
    found = compare(values, in_group, 1000, 0)
    roots = np.sqrt(values) + np.sqrt(values + 1)

    def statistics(group):
        of = roots[group], roots[~group]
        error = np.sqrt((of[0].var(0, ddof=1) + of[1].var(0, ddof=1)) / 5)
        return (of[0].mean(0) - of[1].mean(0)) / (error + np.median(error))

    ways = [np.isin(np.arange(N_DONORS), of) for of in combinations(range(N_DONORS), 5)]
    every = np.abs([statistics(way) for way in ways])
    np.testing.assert_allclose(found.statistic, statistics(in_group))
    limit = np.abs(found.statistic) - 1e-9
    np.testing.assert_allclose(found.p_value, (every >= limit).mean(0))
    largest = every.max(1, keepdims=True)
    np.testing.assert_allclose(found.adj_p_value, (largest >= limit).mean(0))


def test_counts_are_of_each_donor():
    found = counts_of_donors(np.array([[0, 1, 3], [2, 3, 1]]), np.array([0, 0, 1, 2]), 3)
    np.testing.assert_array_equal(found, [[2, 1], [0, 1], [1, 1]])


class TestOfAModel:
    @pytest.fixture(scope="class")
    def trained(self, fit, cells):
        return fit("SCMEDAL_RE", cells.copy())

    def test_shares_are_of_the_cells_of_each_donor(self, trained, cells):
        everything = tl.differential_abundance(
            trained, group_key="condition", n_neighbors=cells.n_obs, n_centres=3
        )
        assert (everything["share_group"] == 1).all()
        assert (everything["log2_ratio"] == 0).all()
        assert (everything["n_donors"] == 4).all()
        assert (everything["p_value"] == 1).all()

    def test_reference_turns_the_signs(self, trained):
        options = {"n_neighbors": 30, "n_centres": 20}
        found, turned = (
            tl.differential_abundance(trained, group_key="condition", reference=name, **options)
            for name in ("control", "disease")
        )
        np.testing.assert_allclose(found["statistic"], -turned["statistic"])
        np.testing.assert_allclose(found["p_value"], turned["p_value"])
        assert set(found.index) <= set(trained.adata.obs_names)

    def test_categories_without_a_cell_do_not_matter(self, trained, adata):
        options = {"group_key": "condition", "n_neighbors": 30, "n_centres": 20}
        expected = tl.differential_abundance(trained, adata, **options)
        names = adata.obs["donor"].unique().tolist()
        adata.obs["donor"] = pd.Categorical(adata.obs["donor"], ["nobody", *names])
        pd.testing.assert_frame_equal(
            tl.differential_abundance(trained, adata, **options), expected
        )

    @pytest.mark.parametrize(("factor", "warns"), [(1, False), (3, True)])
    def test_a_group_of_another_depth(self, trained, adata, factor, warns):
        counts = np.ones(adata.shape)
        counts[adata.obs["condition"] == "disease"] *= factor
        adata.layers["counts"] = counts
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tl.differential_abundance(
                trained, adata, group_key="condition", n_neighbors=30, n_centres=5
            )
        found = [str(w.message) for w in caught if "depth" in str(w.message)]
        assert bool(found) == warns
        assert all("'disease' have 3.00 times the counts" in text for text in found)

    def test_a_group_of_another_depth_by_the_totals_of_all_genes(self, trained, adata):
        options = {"group_key": "condition", "n_neighbors": 30, "n_centres": 5}
        adata.layers["counts"] = np.ones(adata.shape)
        adata.obs["total"] = np.where(adata.obs["condition"] == "disease", 3.0, 1.0)
        with pytest.warns(UserWarning, match="'disease' have 3.00 times the total of those"):
            tl.differential_abundance(trained, adata, depth_key="total", **options)

    def test_errors(self, trained, build, adata):
        with pytest.raises(ValueError, match="3 groups"):
            tl.differential_abundance(trained, group_key="cell_type")
        with pytest.raises(ValueError, match="reference='sick'"):
            tl.differential_abundance(trained, group_key="condition", reference="sick")
        with pytest.raises(ValueError, match="between 1 and the number of cells, 240"):
            tl.differential_abundance(trained, group_key="condition", n_neighbors=241)
        adata.obs["half"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
        with pytest.raises(ValueError, match="in both groups"):
            tl.differential_abundance(trained, adata, group_key="half")
        adata.obs["one"] = np.where(adata.obs["donor"] == "donor_01", "a", "b")
        with pytest.raises(ValueError, match="two donors or more"):
            tl.differential_abundance(trained, adata, group_key="one")
        with pytest.raises(TypeError, match="no random effects"):
            tl.differential_abundance(build("SCMEDAL_FE", adata), group_key="condition")
