"""The heat map of a design: counts, white where there are none, and what the title says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmedal_tools import bm, pl

from .tick_labels import tick_labels


@pytest.fixture
def result():
    """1,203 cells of three donors; only the first is sick, and the third has no T cells."""
    obs = pd.DataFrame(
        {
            "donor": np.repeat(["a", "b", "c"], [1_200, 2, 1]),
            "condition": np.repeat(["sick", "well"], [1_200, 3]),
            "cell_type": [*["B"] * 1_199, "T", "B", "T", "B"],
        },
        index=[f"cell{i}" for i in range(1_203)],
    )
    return bm.confounding(AnnData(obs=obs), "donor", ["cell_type", "condition"])


def texts(ax):
    return {tuple(text.get_position()[::-1]): text.get_text() for text in ax.texts}


def test_cells_are_counts_and_none_is_empty(result):
    ax = pl.confounding(result)
    counts = result.tables["donor", "cell_type"].to_numpy()
    drawn = ax.images[0].get_array()
    np.testing.assert_array_equal(drawn.filled(0), counts)
    np.testing.assert_array_equal(drawn.mask, counts == 0)
    assert texts(ax) == {(0, 0): "1,199", (0, 1): "1", (1, 0): "1", (1, 1): "1", (2, 0): "1"}


def test_rows_are_batches_and_columns_targets(result):
    ax = pl.confounding(result)
    assert tick_labels(ax.yaxis) == ["a", "b", "c"]
    assert tick_labels(ax.xaxis) == ["B", "T"]
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("donor", "cell_type")


def test_numbers_differ_from_what_is_behind_them(result):
    ax = pl.confounding(result)
    colors = {text.get_text(): text.get_color() for text in ax.texts}
    assert colors == {"1,199": "white", "1": "black"}


def title_of(obs):
    names = map(str, range(len(obs["donor"])))
    found = bm.confounding(AnnData(obs=pd.DataFrame(obs, index=names)), "donor", ["type"])
    return pl.confounding(found).get_title().split("\n")[0]


@pytest.mark.parametrize(
    ("types", "title"),
    [
        ("xyxy", "Every donor has every type"),
        ("xxyy", "donor and type divide the cells identically"),
        ("xyzz", "Every type occurs in only one donor"),
        ("xyyy", "1 of 4 combinations have no cells"),
    ],
)
def test_title_says_what_is_nested_in_what(types, title):
    assert title_of({"donor": list("aabb"), "type": list(types)}) == title


def test_title_of_whole_donors_has_the_association_too(result):
    v = result.summary.set_index(["group", "target"]).loc[("donor", "condition"), "cramers_v"]
    title = pl.confounding(result, ("donor", "condition")).get_title()
    assert title == f"Every donor has only one condition\nCramér's V {v:.2f}"


def test_colors_have_a_bar(result):
    ax = pl.confounding(result)
    (bar,) = (other for other in ax.figure.axes if other is not ax)
    assert bar.get_ylabel() == "number of cells"
    assert bar.get_ylim() == pytest.approx((1, 1_199))


def test_is_saved_and_drawn_on_axes_of_the_caller(result, tmp_path):
    _, ax = plt.subplots()
    assert pl.confounding(result, ax=ax, save=tmp_path / "design.png") is ax
    assert (tmp_path / "design.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_in_every_combination():
    obs = pd.DataFrame({"donor": list("aabb"), "type": list("xyxy")}, index=list("1234"))
    image = pl.confounding(bm.confounding(AnnData(obs=obs), "donor", ["type"])).images[0]
    assert np.isfinite(image.norm(image.get_array())).all()


def test_unknown_pair(result):
    with pytest.raises(KeyError, match=r"site.*cell_type.*condition"):
        pl.confounding(result, ("donor", "site"))
