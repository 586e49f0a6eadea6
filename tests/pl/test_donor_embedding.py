"""Figure of donors as points."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.decomposition import PCA

from scmedal_tools import pl

DONORS = [f"d{i}" for i in range(5)]


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

    def test_groups_are_in_the_order_of_their_categories(self, donors):
        groups = pd.Series(pd.Categorical(list("aabba"), ["b", "a"]), DONORS)
        ax = pl.donor_embedding(donors, groups)
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b", "a", "a, new"]

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
