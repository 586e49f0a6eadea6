"""Figures of donors: what is drawn is what was found."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.collections import PathCollection
from sklearn.decomposition import PCA

from scmedal_tools import bm, pl

DONORS = [f"d{i}" for i in range(5)]


def labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


class TestPrediction:
    @pytest.fixture
    def result(self):
        rows = [
            ("composition", "nearest centroid", "auc", 0.9, 0.4, 0.01),
            ("composition", "shrunken LDA", "auc", 0.6, 0.5, 0.3),
            ("$x$", "nearest centroid", "auc", 0.5, 0.5, 0.6),
            ("$x$", "shrunken LDA", "auc", 0.8, 0.5, 0.05),
            ("composition", "nearest centroid", "balanced_accuracy", 0.7, 0.5, 0.2),
        ]
        columns = ["features", "method", "metric", "value", "chance", "p_value"]
        return bm.DonorPrediction(
            pd.DataFrame(rows, columns=columns).assign(n_donors=7), pd.DataFrame()
        )

    def test_points_are_values_and_filled_if_chance_does_not_explain_them(self, result):
        ax = pl.donor_prediction(result, "auc")
        assert labels(ax.yaxis) == ["composition", r"\$x\$"]
        points = [c for c in ax.collections if isinstance(c, PathCollection)]
        np.testing.assert_allclose(
            [p.get_offsets()[:, 0] for p in points], [[0.9, 0.5], [0.6, 0.8]]
        )
        white = [[tuple(face) == (1, 1, 1, 1) for face in p.get_facecolor()] for p in points]
        assert white == [[False, True], [True, False]]

    def test_first_metric_by_default_and_unknown_ones(self, result):
        _, ax = plt.subplots()
        assert pl.donor_prediction(result, ax=ax) is ax
        assert ax.get_xlabel() == "auc, 7 donors, one left out at a time"
        with pytest.raises(KeyError, match="there are auc, balanced_accuracy"):
            pl.donor_prediction(result, "r2")


class TestEmbedding:
    @pytest.fixture
    def donors(self):
        rng = np.random.default_rng(0)
        obs = pd.DataFrame({"n_cells": 9, "is_new": [False] * 4 + [True]}, DONORS)
        precision = rng.uniform(1, 9, (5, 6))
        return AnnData(rng.normal(size=(5, 6)), obs=obs, layers={"precision": precision})

    def test_axes_are_those_of_the_donors_of_the_training(self, donors):
        groups = pd.Series(list("aabba"), DONORS)
        ax = pl.donor_embedding(donors, groups)
        axes = PCA(2).fit(donors.X[:4])
        drawn = {text.get_text(): text.xy for text in ax.texts}
        expected = axes.transform(donors.X)
        signs = np.sign(np.array([drawn[name] for name in DONORS])[0] * expected[0])
        np.testing.assert_allclose([drawn[name] for name in DONORS], signs * expected, atol=1e-6)
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "a, new", "b"]

    def test_bars_are_posterior_standard_deviations(self, donors):
        ax = pl.donor_embedding(donors)
        first = ax.containers[0].lines[2][0].get_segments()[0]
        weights = np.square(PCA(2).fit(donors.X[:4]).components_[0])
        sd = np.sqrt((weights / donors.layers["precision"][0]).sum())
        assert np.ptp(first[:, 0]) == pytest.approx(2 * sd)

    def test_errors(self, donors):
        with pytest.raises(ValueError, match=r"no group for \['d4'\]"):
            pl.donor_embedding(donors, pd.Series(list("aabb"), DONORS[:4]))
        with pytest.raises(ValueError, match="three donors or more"):
            pl.donor_embedding(donors[2:])


def test_distances_have_one_order_and_one_scale():
    points = np.array([0.0, 5.0, 0.5, 5.5])
    table = pd.DataFrame(np.abs(points[:, None] - points), list("abcd"), list("abcd"))
    distances = pd.concat([table, table / 2], keys=["T", "$B$"], names=["group", "donor"])
    figure = pl.donor_distances(distances)
    axes = figure.axes[:2]
    order = labels(axes[0].xaxis)
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}
    assert [ax.get_title() for ax in axes] == ["T", r"\$B\$"]
    for ax, scale in zip(axes, (1, 0.5), strict=True):
        expected = scale * table.loc[order, order]
        np.testing.assert_allclose(ax.images[0].get_array(), expected)
        assert ax.images[0].get_clim() == (0, 5.5)


class TestAbundance:
    @pytest.fixture
    def cells(self):
        obs = pd.DataFrame(index=list("vwxyz"))
        return AnnData(obs=obs, obsm={"X_umap": np.arange(10.0).reshape(5, 2)})

    def test_neighbourhoods_lie_at_their_cells(self, cells):
        found = pd.DataFrame(
            {"log2_ratio": [1.0, -2.0], "adj_p_value": [0.5, 0.05]}, index=["y", "w"]
        )
        ax = pl.differential_abundance(found, cells, "X_umap")
        _, same, differ = ax.collections
        np.testing.assert_array_equal(same.get_offsets(), [[6, 7]])
        np.testing.assert_array_equal(differ.get_offsets(), [[2, 3]])
        np.testing.assert_array_equal(differ.get_array(), [-2])
        assert differ.get_clim() == (-2, 2)
        assert ax.get_title() == "1 of 2 neighbourhoods differ"

    def test_unknown_basis(self, cells):
        with pytest.raises(KeyError, match=r"X_pca.*X_umap"):
            pl.differential_abundance(pd.DataFrame(), cells, "X_pca")


class TestAdmissibility:
    supported = pd.DataFrame({"d0": [True, True, False], "d1": [True, False, False]}, list("xyz"))

    def test_fields_are_shares_and_hollow_below_a_half(self):
        types = pd.Series(["T", "T", "B"], list("xyz"))
        ax = pl.admissibility(self.supported, types)
        drawn = ax.images[0].get_array()
        np.testing.assert_array_equal(drawn.filled(-1), [[-1, -1], [1, 0.5]])
        assert [text.get_text() for text in ax.texts] == ["0.00", "0.00", "1.00", "0.50"]
        assert labels(ax.yaxis) == ["B", "T"]

    def test_cells_without_a_label(self):
        with pytest.raises(ValueError, match="1 of 3 cells have none"):
            pl.admissibility(self.supported, pd.Series(["T", "T"], ["x", "y"]))
