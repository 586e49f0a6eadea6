"""The figure of scores: which row is where, what marks it, and with which values."""

from itertools import pairwise
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scmedal_tools.bm import summarise_folds
from scmedal_tools.pl import scores

ROWS = ["pca", "pca + RE", "harmony", "RE"]
CONTROLS = ["batch label", "RE, own effects in training cells"]
BLUE, VERMILLION = "#0072b2", "#d55e00"


@pytest.fixture(autouse=True)
def _no_display():
    plt.switch_backend("agg")


def table(n_folds):
    rng = np.random.default_rng(0)
    # In another order than the figure's.
    asked = [(name, "sex", "accuracy") for name in ["chance", CONTROLS[0], *ROWS, CONTROLS[1]]]
    asked += [(name, of, "ASW") for of in ("batch", "label") for name in ("pca", "harmony", "RE")]
    rows = [(fold, *what, rng.uniform()) for fold in range(n_folds) for what in asked]
    made = pd.DataFrame(rows, columns=["fold", "embedding", "of", "metric", "value"])
    control = made["embedding"].isin([*CONTROLS, "chance"])
    return made.assign(control=control, joint=made["embedding"] == "harmony")


@pytest.fixture
def summary():
    return summarise_folds(table(3))


def labels(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def points(ax):
    """Marks by the height at which they are drawn."""
    return {
        y: (x, line)
        for line in ax.lines
        if line.get_label() != "chance"
        for x, y in zip(*line.get_data(), strict=True)
    }


def test_rows_from_top_to_bottom_with_controls_below(summary):
    (ax,) = scores(summary, "accuracy").axes
    assert labels(ax) == ["pca", "pca + RE", "harmony (joint)", "RE", *CONTROLS]
    heights = ax.get_yticks()
    assert (np.diff(heights) > 0).all()
    assert ax.yaxis_inverted()
    assert heights[4] - heights[3] > heights[1] - heights[0]


def test_points_and_intervals_are_those_of_the_summary(summary):
    (ax,) = scores(summary, "accuracy").axes
    expected = summary.query("metric == 'accuracy'").set_index("embedding")
    drawn = points(ax)
    intervals = {
        ends[0, 1]: (ends[0, 0], ends[1, 0])
        for lines in ax.collections
        for ends in lines.get_segments()
    }
    for name, y in zip([*ROWS, *CONTROLS], ax.get_yticks(), strict=True):
        assert drawn[y][0] == expected.loc[name, "mean"]
        assert intervals[y] == tuple(expected.loc[name, ["lower", "upper"]])


def test_marks_tell_the_kinds_apart_without_colours_too(summary):
    (ax,) = scores(summary, "accuracy").axes
    looks = [
        (line.get_marker(), to_hex(line.get_markeredgecolor()), to_hex(line.get_markerfacecolor()))
        for _, line in (points(ax)[y] for y in ax.get_yticks())
    ]
    control = ("o", to_hex("0.5"), "#ffffff")
    embedding = ("o", BLUE, BLUE)
    assert looks == [embedding, ("D", VERMILLION, VERMILLION), *[embedding] * 2, *[control] * 2]


def test_chance_is_a_line(summary):
    figure = scores(summary, "accuracy")
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "chance")
    mean = summary.query("embedding == 'chance'")["mean"].item()
    assert list(line.get_xdata()) == [mean, mean]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["embedding", "with RE", "control", "chance"]


def test_a_panel_for_each_of_what_is_scored(summary):
    figure = scores(summary, "ASW")
    assert [ax.get_title() for ax in figure.axes] == ["batch", "label"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["ASW", "ASW"]
    assert labels(figure.axes[0]) == ["pca", "harmony (joint)", "RE"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["embedding"]
    (ax,) = scores(summary, "ASW", "label").axes
    expected = summary.query("metric == 'ASW' and of == 'label'")["mean"]
    assert [points(ax)[y][0] for y in ax.get_yticks()] == list(expected)


@pytest.mark.parametrize("least", [-0.08, -0.9, 0.101])
@pytest.mark.parametrize("width", [0.02, 0.2, 0.9])
def test_numbers_of_the_axis_are_apart(summary, least, width):
    drawn = summary.query("metric == 'accuracy'").copy()
    drawn[["lower", "mean", "upper"]] = np.linspace(least, least + width, 3)
    figure = scores(drawn, "accuracy")
    figure.draw_without_rendering()
    (ax,) = figure.axes
    left, right = ax.get_xlim()
    shown = [
        label.get_window_extent()
        for x, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
        if left <= x <= right
    ]
    assert len(shown) >= 3
    assert all(after.x0 - before.x1 > 3 for before, after in pairwise(shown))


def test_one_fold_is_points_without_intervals():
    (ax,) = scores(summarise_folds(table(1)), "accuracy").axes
    assert len(points(ax)) == len(ROWS) + len(CONTROLS)
    for lines in ax.collections:
        assert all(ends.size == 0 for ends in lines.get_segments())


def test_result_of_a_cross_validation_is_accepted(summary):
    result = SimpleNamespace(summary=lambda: summary)
    assert labels(scores(result, "ASW").axes[0]) == labels(scores(summary, "ASW").axes[0])


def test_summary_without_marks_has_no_controls(summary):
    (ax,) = scores(summary.drop(columns=["control", "joint"]), "accuracy").axes
    assert "harmony" in labels(ax)
    assert np.diff(ax.get_yticks()).tolist() == [1] * 5


def test_long_names_and_many_rows_stay_inside_and_apart(summary):
    many = [summary.assign(embedding=f"{i} " + summary["embedding"] * 2) for i in range(6)]
    figure = scores(pd.concat(many), "accuracy")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert len(boxes) > 30
    assert all(box.x0 >= 0 for box in boxes)
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert figure.axes[0].get_window_extent().width > 2 * figure.dpi


def test_drawn_into_axes_of_the_caller(summary):
    figure, axes = plt.subplots(1, 2)
    plt.close(figure)
    assert scores(summary, "accuracy", ax=axes[1]) is figure
    assert not axes[0].has_data()
    assert labels(axes[1])[0] == "pca"
    assert [text.get_text() for text in axes[1].get_legend().get_texts()][-1] == "chance"
    with pytest.raises(ValueError, match=r"panels for \['batch', 'label'\]: choose one"):
        scores(summary, "ASW", ax=axes[0])


def test_figure_is_saved_and_pyplot_keeps_nothing(summary, tmp_path):
    figures, settings = plt.get_fignums(), dict(plt.rcParams)
    scores(summary, "ASW", save=tmp_path / "scores.pdf")
    assert (tmp_path / "scores.pdf").read_bytes().startswith(b"%PDF")
    assert plt.get_fignums() == figures
    assert dict(plt.rcParams) == settings


@pytest.mark.parametrize(
    ("metric", "of", "match"),
    [
        ("F1", None, "no metric 'F1'; there are accuracy, ASW"),
        ("ASW", "sex", "of='sex': ASW is there of batch, label"),
        ("ASW", [], "ASW is there of batch, label"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(summary, metric, of, match):
    with pytest.raises(KeyError, match=match):
        scores(summary, metric, of)


def test_table_of_folds_is_refused():
    with pytest.raises(KeyError, match=r"\['mean', 'lower', 'upper'\] not in the table.*summary"):
        scores(table(3), "ASW")
