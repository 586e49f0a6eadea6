"""Colours of columns that are drawn together."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex, to_rgba_array
from scanpy.pl import palettes
from scipy.spatial.distance import cdist

from scmedal_tools.pl._palette import GROUP_COLORS, palette

GROUPS = [to_hex(color) for color in GROUP_COLORS]


def colors(*n_categories):
    """Colours of columns with these numbers of categories, drawn in this order."""
    obs = pd.DataFrame({f"c{i}": np.resize(np.arange(n), 200) for i, n in enumerate(n_categories)})
    adata = AnnData(obs=obs.astype("category").set_index(obs.index.astype(str)))
    return [list(palette(adata, column).values()) for column in adata.obs]


@pytest.mark.parametrize("n_donors", [4, 8, 18, 25, 28, 40, 99])
def test_conditions_and_donors_keep_their_colors_in_both_orders(n_donors):
    donors, conditions = colors(n_donors, 3)
    assert conditions == GROUPS
    assert len(set(donors)) == n_donors
    assert cdist(to_rgba_array(donors), to_rgba_array(conditions)).min() > 0.15
    assert colors(3, n_donors) == [conditions, donors]
    assert colors(n_donors) == [donors]


def test_conditions_keep_their_colors_beside_many_donors_and_types():
    donors, types, conditions = colors(40, 40, 3)
    assert conditions == GROUPS
    assert not {*types} & {*donors}


def test_a_second_column_of_two_categories_gets_others():
    first, second = colors(3, 2)
    assert first == GROUPS
    assert cdist(to_rgba_array(first), to_rgba_array(second)).min() > 0.15


@pytest.mark.parametrize(
    ("n_categories", "expected"),
    [
        (8, palettes.vega_10),
        (15, palettes.default_20),
        (25, palettes.default_28),
        (40, palettes.default_102),
    ],
)
def test_many_categories_get_colors_of_scanpy_whatever_style_is_in_use(n_categories, expected):
    (drawn,) = colors(n_categories)
    assert set(drawn) <= set(map(to_hex, expected))
    with plt.style.context("scmedal_tools.style"):
        assert colors(n_categories) == [drawn]


def test_more_categories_than_colors_repeat_them():
    (drawn,) = colors(150)
    assert len(drawn) == 150
    assert drawn[:51] == drawn[99:]
