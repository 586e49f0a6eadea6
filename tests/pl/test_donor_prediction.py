"""Figure of the prediction of donors."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection

from scmedal_tools import bm, pl

from .tick_labels import tick_labels


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
        assert tick_labels(ax.yaxis) == ["composition", r"\$x\$"]
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
