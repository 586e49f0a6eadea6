"""Figure of the support of cells in donors."""

import numpy as np
import pandas as pd
import pytest

from scmedal_tools import pl

from .tick_labels import tick_labels


class TestAdmissibility:
    supported = pd.DataFrame({"d0": [True, True, False], "d1": [True, False, False]}, list("xyz"))

    def test_fields_are_shares_and_hollow_below_a_half(self):
        types = pd.Series(["T", "T", "B"], list("xyz"))
        ax = pl.admissibility(self.supported, types)
        drawn = ax.images[0].get_array()
        np.testing.assert_array_equal(drawn.filled(-1), [[-1, -1], [1, 0.5]])
        assert [text.get_text() for text in ax.texts] == ["0.00", "0.00", "1.00", "0.50"]
        assert tick_labels(ax.yaxis) == ["B", "T"]
        assert "white: less than half" in ax.get_title()

    def test_cells_without_a_label(self):
        with pytest.raises(ValueError, match="1 of 3 cells have none"):
            pl.admissibility(self.supported, pd.Series(["T", "T"], ["x", "y"]))
