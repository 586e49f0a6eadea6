"""Figures of donors: what is drawn is what was found."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.collections import PathCollection
from sklearn.decomposition import PCA

from scmedal_tools import bm, pl, tl

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
        entries = [text.get_text() for text in ax.get_legend().get_texts()]
        assert entries == ["chance", "nearest centroid", "shrunken LDA"]

    def test_first_metric_by_default_and_unknown_ones(self, result):
        _, ax = plt.subplots()
        assert pl.donor_prediction(result, ax=ax) is ax
        assert ax.get_xlabel() == "AUC, 7 donors, one left out at a time"
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
        of_group = [container.lines[0].get_xydata() for container in ax.containers]
        drawn = np.concatenate(of_group)[[0, 1, 3, 4, 2]]  # a, a new, b
        expected = axes.transform(donors.X)
        signs = np.sign(drawn[0] * expected[0])
        np.testing.assert_allclose(drawn, signs * expected, atol=1e-6)
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "a, new", "b"]

    def test_names_are_all_there_and_apart(self, donors):
        donors.X[1:] = donors.X[0] + 0.1 * donors.X[1:]
        ax = pl.donor_embedding(donors)
        assert sorted(text.get_text() for text in ax.texts) == DONORS
        boxes = [text.get_window_extent() for text in ax.texts]
        assert not any(box.count_overlaps(boxes[:i]) for i, box in enumerate(boxes))

    def test_names_lie_on_no_bar(self, donors):
        ax = pl.donor_embedding(donors)
        bars = [
            bar for points in ax.containers for bars in points.lines[2] for bar in bars.get_paths()
        ]
        for name in ax.texts:
            box = name.get_window_extent()
            assert not any(ax.transData.transform_path(bar).intersects_bbox(box) for bar in bars)

    def test_bars_are_posterior_standard_deviations(self, donors):
        ax = pl.donor_embedding(donors)
        first = ax.containers[0].lines[2][0].get_segments()[0]
        weights = np.square(PCA(2).fit(donors.X[:4]).components_[0])
        sd = np.sqrt((weights / donors.layers["precision"][0]).sum())
        assert np.ptp(first[:, 0]) == pytest.approx(2 * sd)

    def test_errors(self, donors):
        with pytest.raises(ValueError, match=r"no group for \['d4'\]"):
            pl.donor_embedding(donors, pd.Series(list("aabb"), DONORS[:4]))
        with pytest.raises(ValueError, match="Two directions need three donors"):
            pl.donor_embedding(donors[2:])


class TestDistances:
    @pytest.fixture
    def distances(self):
        """Two pairs of donors, in noise of 0.5; in the second group half of the distances."""
        points, names = np.array([0.0, 5.0, 0.5, 5.5]), list("abcd")
        table = pd.DataFrame(np.abs(points[:, None] - points), names, names)
        noise = pd.DataFrame(0.5 * (1 - np.eye(4)), names, names)
        groups = ["T", "$B$"]
        tables = [
            pd.concat(of_groups, keys=groups, names=["group", "donor"])
            for of_groups in ([table, table / 2], [noise, noise])
        ]
        return tl.DonorDistances(*tables, pd.DataFrame(10.0, groups, names))

    def test_are_multiples_of_the_noise_in_one_order_and_scale(self, distances):
        figure = pl.donor_distances(distances)
        *axes, bar = figure.axes
        order = labels(axes[0].xaxis)
        assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}
        assert [ax.get_title() for ax in axes] == ["T", r"\$B\$"]
        table = distances.distance.loc["T"].loc[order, order].to_numpy()
        for ax, scale in zip(axes, (2, 1), strict=True):
            expected = scale * table + np.eye(4)
            np.testing.assert_allclose(ax.images[0].get_array(), expected)
            assert ax.images[0].get_clim() == (1, 11)
        assert bar.get_ylabel() == "times the posterior s.d."
        assert not figure.legends

    def test_scale_does_not_blow_up_what_noise_explains(self, distances):
        alike = distances._replace(distance=1.2 * distances.sd)
        assert pl.donor_distances(alike).axes[0].images[0].get_clim() == (1, 3)

    def test_donors_with_few_cells_are_grey_in_that_group(self, distances):
        distances.n_cells.loc["$B$", "b"] = 9.0
        figure = pl.donor_distances(distances)
        of_t, of_b = (ax.images[0].get_array().mask for ax in figure.axes[:2])
        is_b = np.array(labels(figure.axes[0].xaxis)) == "b"
        assert not np.any(of_t)
        np.testing.assert_array_equal(of_b, is_b[:, None] | is_b)
        (entry,) = figure.legends[0].get_texts()
        assert entry.get_text() == "fewer than 10 cells"

    def test_grid_is_balanced(self, distances):
        tables = [
            pd.concat([table.loc[["T"]]] * 5, keys=list("vwxyz")).droplevel(1)
            for table in distances[:2]
        ]
        for table in tables:
            table.index.names = ["group", "donor"]
        many = tl.DonorDistances(*tables, pd.DataFrame(10.0, list("vwxyz"), list("abcd")))
        grid = pl.donor_distances(many).axes[0].get_gridspec()
        assert (grid.nrows, grid.ncols) == (2, 3)


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

    @pytest.mark.parametrize(
        ("basis", "names"),
        [
            ("X_umap", ["UMAP1", "UMAP2"]),
            ("X_umap_re", ["UMAP1", "UMAP2"]),
            ("X_re", ["X_re 1", "X_re 2"]),
        ],
    )
    def test_axes_are_named_after_what_they_are(self, cells, basis, names):
        cells.obsm[basis] = cells.obsm["X_umap"]
        found = pd.DataFrame({"log2_ratio": [1.0], "adj_p_value": [0.5]}, index=["y"])
        ax = pl.differential_abundance(found, cells, basis)
        assert [ax.get_xlabel(), ax.get_ylabel()] == names

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
        assert "white: less than half" in ax.get_title()

    def test_cells_without_a_label(self):
        with pytest.raises(ValueError, match="1 of 3 cells have none"):
            pl.admissibility(self.supported, pd.Series(["T", "T"], ["x", "y"]))
