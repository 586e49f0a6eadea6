"""Sums of counts, and whether their logarithms know how precise they are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scmedal_tools._sample_model import CountSums, sum_counts
from scmedal_tools._sample_model import _counts as counts_module


@pytest.fixture
def cells():
    """Counts of cells of different totals, and their groups, of which the last has no cell."""
    rng = np.random.default_rng(0)
    depth = rng.lognormal(0, 0.5, 300)[:, None]
    return rng.poisson(depth * rng.gamma(1, 1, (300, 40))).astype(np.float32), np.arange(300) % 3


@pytest.mark.parametrize("given", [np.asarray, sparse.csr_matrix, sparse.csr_array])
def test_sums(cells, given, monkeypatch):
    monkeypatch.setattr(counts_module, "CELLS_AT_ONCE", 70)
    counts, group = cells
    sums = sum_counts(given(counts), group, 4)
    for k in range(3):
        own = counts[group == k].astype(float)
        np.testing.assert_allclose(sums.counts[k], own.sum(0))
        assert sums.totals[k] == own.sum()
        assert sums.n_cells[k] == len(own)
        expected = own.sum(1)[:, None] * own.sum(0) / own.sum()
        squares = np.square(own - expected).sum(0) * len(own) / (len(own) - 1)
        np.testing.assert_allclose(sums.squares[k], squares)
    assert not sums.counts[3].any()
    assert sums.n_cells[3] == 0


def test_cells_of_no_group_are_left_out(cells):
    counts, group = cells
    some = np.where(group == 1, -1, group)
    found, expected = sum_counts(counts, some, 3), sum_counts(counts, group, 3)
    for name in ("counts", "totals", "n_cells", "squares"):
        np.testing.assert_allclose(getattr(found, name)[[0, 2]], getattr(expected, name)[[0, 2]])
        assert not getattr(found, name)[1].any()


def test_totals_that_are_given(cells):
    counts, group = cells
    totals = 3 * counts.sum(1)
    sums = sum_counts(counts, group, 3, totals)
    np.testing.assert_allclose(sums.totals, np.bincount(group, totals))


def test_overdispersion_of_poisson_counts_is_one():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.lognormal(1, 1, 30), (2_000, 30))
    found = sum_counts(counts, np.arange(2_000) % 10, 10).overdispersion()
    np.testing.assert_allclose(found, 1, atol=0.15)


def repeated(mean, overdispersion, seed=0, n=4_000):
    """Sums with a known mean, negative binomial, as sums of many samples."""
    rng = np.random.default_rng(seed)
    if overdispersion == 1:
        drawn = rng.poisson(mean, (n, 1))
    else:
        drawn = rng.negative_binomial(mean / (overdispersion - 1), 1 / overdispersion, (n, 1))
    return drawn.astype(float)


@pytest.mark.parametrize("overdispersion", [1, 3])
def test_logarithms_do_not_depend_on_the_depth(overdispersion, monkeypatch):
    monkeypatch.setattr(CountSums, "overdispersion", lambda _: np.array([float(overdispersion)]))
    means = {}
    for depth in (10.0, 20.0):
        drawn = repeated(depth, overdispersion)
        sizes = np.full(len(drawn), depth)
        sums = CountSums(drawn, sizes, np.ones(len(drawn)), drawn)
        values, noise = sums.response(sizes)
        means[depth] = values.mean()
        assert values.var() == pytest.approx(noise[0, 0], rel=0.3)
    se = np.sqrt(overdispersion / 10 / 4_000)
    # Without the added counts, or with one half whatever the overdispersion, it is 6 and 10 s.e.
    assert abs(means[20.0] - means[10.0]) < (4 if overdispersion == 1 else 6) * se


@pytest.mark.parametrize("size", [0.1, 2.0])
def test_logarithms_do_not_depend_on_the_depth_of_cells_that_differ(size):
    """Negative binomial cells: the variance of their sums, over its mean, grows with the depth."""
    rng = np.random.default_rng(0)
    sample, n_genes = np.repeat(np.arange(200), 20), 100
    depth = np.where(sample < 100, 1.0, 0.5)[:, None]
    counts = rng.poisson(depth * rng.gamma(size, 1 / size, (len(sample), n_genes)))
    sums = sum_counts(counts, sample, 200, np.full(len(sample), n_genes) * depth[:, 0])
    values = sums.response(sums.totals).values
    assert values[100:].mean() - values[:100].mean() == pytest.approx(0, abs=0.03)


def test_sizes_ignore_genes_that_change(cells):
    rng = np.random.default_rng(0)
    counts = rng.poisson(200, (6, 100)).astype(float)
    totals = np.array([1.0, 2, 1, 2, 1, 2]) * 20_000
    counts *= totals[:, None] / 20_000
    counts[:3, :15] *= 8
    sums = CountSums(counts, counts.sum(1), np.full(6, 50), counts)
    sizes = sums.sizes()
    np.testing.assert_allclose(sizes / sizes.mean(), totals / totals.mean(), rtol=0.05)
    assert np.exp(np.log(sizes / sums.totals).mean()) == pytest.approx(1)


def sums_of(counts, totals):
    return CountSums(counts, totals, np.full(len(counts), 50), counts)


@pytest.mark.parametrize("n_genes", [1, 2, 49])
def test_sizes_by_few_genes_are_the_totals(n_genes):
    counts = np.full((4, n_genes), 50.0)
    counts[:2] *= 8
    totals = np.array([1.0, 2, 1, 2]) * 20_000
    np.testing.assert_allclose(sums_of(counts, totals).sizes(), totals)


def test_genes_with_few_counts_do_not_count_for_sizes():
    """Their logarithms are those of the half that is added, whatever the depth."""
    rng = np.random.default_rng(0)
    means = np.concatenate([np.full(60, 20.0), np.full(2_000, 0.05)])
    depth = np.repeat([1.0, 0.5], 20)
    counts = rng.poisson(means * depth[:, None]).astype(float)
    sizes = sums_of(counts, counts.sum(1)).sizes()
    assert sizes[20:].mean() / sizes[:20].mean() == pytest.approx(0.5, rel=0.03)
