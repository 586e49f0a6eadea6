"""The summary over combinations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scmedal_tools import bm

from .world import measure, oracle, without_training

SCORES = ["correlation", "slope", "error", "noise", "ceiling"]


class TestSummary:
    @pytest.fixture
    def shifts(self):
        # Method b sorts first in the table; combination T has three sources and S one.
        rows = [
            ("held out", "b", "x", "1", "T", 1.0),
            ("held out", "b", "x", "2", "T", 2.0),
            ("held out", "b", "x", "3", "T", 9.0),
            ("held out", "b", "x", "1", "S", 10.0),
            ("held out", "b", "y", "1", "S", np.nan),
            ("seen", "a", "x", "1", "T", 4.0),
            ("seen", "a", "x", "2", "T", 5.0),
            ("seen", "b", "x", "1", "T", 7.0),
        ]
        names = ["regime", "method", "cell_type", "source", "target", "error"]
        return pd.DataFrame(rows, columns=names)

    def test_every_combination_counts_once(self, shifts):
        summary = bm.shift_summary(shifts)
        assert list(summary.index) == [("held out", "b"), ("seen", "a"), ("seen", "b")]
        # The median of 2 and 10, not of the five rows.
        assert summary["error"].tolist() == [6.0, 4.5, 7.0]
        assert summary["n_combinations"].tolist() == [3, 1, 1]

    def test_of_a_measured_table(self, world):
        train = without_training(world, ("B", "x"), ("C", "z"))
        models = {"two": oracle(world), "one": oracle(world, 0.5)}
        summary = bm.shift_summary(measure(world, models, train=train))
        assert list(summary["n_combinations"].loc["held out"].items()) == [("two", 2), ("one", 2)]
        assert list(summary["n_combinations"].loc["seen"].items()) == [("two", 10), ("one", 10)]
        assert set(SCORES) < set(summary)
        slopes = summary["slope"].unstack()
        np.testing.assert_allclose(slopes["one"], 2 * slopes["two"])
