"""Scores of predicted shifts: points, medians, ceilings and what is beyond the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scmedal_tools import bm
from scmedal_tools.pl import counterfactual_shift

SCORES = ["correlation", "slope", "error"]
METHODS = ["SCMEDAL_RE", "additive", "mixed model (given cell types)"]


@pytest.fixture
def shifts():
    """Three methods, from two sources, to four combinations seen and two held out."""
    rng = np.random.default_rng(0)
    combinations = [("seen", *x) for x in ("Ax", "Ay", "Bx", "By")]
    combinations += [("held out", *x) for x in ("Cx", "Cy")]
    rows = [
        {"method": method, "regime": regime, "cell_type": label, "source": s, "target": target}
        for regime, target, label in combinations
        for s in "DE"
        for method in METHODS
    ]
    scores = pd.DataFrame(rng.uniform(0.1, 0.9, (len(rows), 3)), columns=SCORES)
    ceiling = np.repeat(rng.uniform(0.5, 1, len(rows) // 3), 3)
    return pd.DataFrame(rows).join(scores).assign(noise=0.2, ceiling=ceiling)


def panels(figure):
    """Panels by regime and score."""
    axes = np.reshape(figure.axes, (-1, 3))
    return {
        (row[0].get_title(loc="left").split(" (")[0], score): ax
        for row in axes
        for score, ax in zip(SCORES, row, strict=True)
    }


def artists(ax):
    return {line.get_label(): line for line in ax.lines}


def test_points_are_medians_over_sources(shifts):
    drawn = panels(counterfactual_shift(shifts))
    keys = ["regime", "method", "cell_type", "target"]
    expected = shifts.groupby(keys, sort=False)[SCORES].median()
    assert set(drawn) == {(regime, score) for regime in ("seen", "held out") for score in SCORES}
    for (regime, score), ax in drawn.items():
        points = artists(ax)["combination"]
        rows = np.round(points.get_ydata()).astype(int)
        for row, method in enumerate(METHODS):
            values = expected.loc[regime, method][score]
            np.testing.assert_allclose(
                np.sort(points.get_xdata()[rows == row]), np.sort(values), err_msg=method
            )


def test_bars_and_ceiling_are_those_of_the_summary(shifts):
    summary = bm.shift_summary(shifts)
    for (regime, score), ax in panels(counterfactual_shift(shifts)).items():
        bars = artists(ax)["median"]
        np.testing.assert_allclose(bars.get_xdata(), summary.loc[regime].loc[METHODS, score])
        np.testing.assert_array_equal(bars.get_ydata(), range(3))
        if score == "correlation":
            ceiling = artists(ax)["ceiling (median)"].get_xdata()
            np.testing.assert_allclose(ceiling, summary.loc[regime]["ceiling"].iloc[0])


def test_methods_are_rows_in_the_order_of_the_table(shifts):
    ax = counterfactual_shift(shifts).axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == METHODS
    bottom, top = ax.get_ylim()
    assert bottom > top


def test_regimes_are_rows_with_their_numbers(shifts):
    figure = counterfactual_shift(shifts)
    titles = [ax.get_title(loc="left") for ax in figure.axes[::3]]
    assert titles == ["seen (4 combinations)", "held out (2 combinations)"]
    only = counterfactual_shift(shifts[shifts["regime"] == "held out"])
    assert len(only.axes) == 3


def test_perfect_slope_and_error_are_marked(shifts):
    drawn = panels(counterfactual_shift(shifts))
    marks = {score: artists(drawn["seen", score]).get("perfect") for score in SCORES}
    assert marks.pop("correlation") is None
    assert {score: line.get_xdata()[0] for score, line in marks.items()} == {
        "slope": 1,
        "error": 0,
    }


def test_what_is_beyond_the_axis_is_an_arrow_at_its_edge(shifts):
    of_one = (shifts["target"] == "A") & (shifts["cell_type"] == "x")
    shifts.loc[of_one & (shifts["method"] == "additive"), ["slope", "error"]] = [-7, 40]
    drawn = panels(counterfactual_shift(shifts))
    arrows = {"slope": ("_below", "<", -0.5), "error": ("_above", ">", 2)}
    for score, (label, marker, edge) in arrows.items():
        arrow = artists(drawn["seen", score])[label]
        assert (arrow.get_marker(), *arrow.get_xdata()) == (marker, edge)
        assert np.round(arrow.get_ydata()) == METHODS.index("additive")
        assert len(artists(drawn["seen", score])["combination"].get_xdata()) == 11


def test_missing_scores_are_left_out(shifts):
    shifts.loc[shifts["method"] == "additive", "error"] = np.nan
    ax = panels(counterfactual_shift(shifts))["seen", "error"]
    assert len(artists(ax)["combination"].get_xdata()) == 8
    assert np.isnan(artists(ax)["median"].get_xdata()[1])


@pytest.mark.slow
def test_figure_is_saved_and_pyplot_keeps_nothing(shifts, tmp_path):
    figure = counterfactual_shift(shifts, save=tmp_path / "shifts.png")
    assert (tmp_path / "shifts.png").read_bytes().startswith(b"\x89PNG")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["combination", "median", "ceiling (median)", "perfect"]
    assert plt.get_fignums() == []


def test_another_table(shifts):
    with pytest.raises(ValueError, match=r"no columns \['ceiling'\].*bm.counterfactual_shift"):
        counterfactual_shift(shifts.drop(columns="ceiling"))
    with pytest.raises(ValueError, match="no rows"):
        counterfactual_shift(shifts[:0])
