"""A level is found by what it is, by how it is written, and as a number."""

import numpy as np
import pandas as pd
import pytest

from scmedal_tools._find_level import find_level

DONORS = np.array([1.0, 2.0, 2.5])
DAYS = pd.date_range("2020-01-01", periods=2)


@pytest.mark.parametrize(
    ("levels", "name", "found"),
    [
        (["a", "b"], "b", 1),
        (DONORS, 2, 1),
        (DONORS, "2", 1),
        (DONORS, "2.0", 1),
        (["1.0", "2.0"], 2, 1),
        (np.array([1, 2]), "2.0", 1),
        ([False, True], "True", 1),
        (["01", "1", "1.0"], "1", 1),
        (DAYS, DAYS[1], 1),
        (DAYS, str(DAYS[1]), 1),
        (["a", "b"], "c", None),
        (DONORS, "2.2", None),
        ([False, True], "1", None),
        (["01", "1.0"], "1", None),
        (["nan"], float("inf"), None),
        (DAYS, 2020, None),
        (["10_1", "1E2"], "101", None),
        (["10_1", "1E2"], 100, None),
        (["12345678901234567"], "12345678901234568", None),
    ],
)
def test_found(levels, name, found):
    assert find_level(levels, name) == found
