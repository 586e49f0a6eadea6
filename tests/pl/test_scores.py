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

ALONE = ["pca", "harmony", "RE"]
JOINED = ["pca + RE", "pca + RE, permuted labels", "pca + batch label"]
CONTROLS = ["batch label", "RE, own effects in training cells", *JOINED[1:]]
BLUE, VERMILLION = "#0072b2", "#d55e00"


@pytest.fixture(autouse=True)
def _no_display():
    plt.switch_backend("agg")


def table(n_folds):
    rng = np.random.default_rng(0)
    # In another order than the figure's.
    names = ["chance", CONTROLS[0], *JOINED[::-1], *ALONE, CONTROLS[1]]
    asked = [(name, "sex", "accuracy") for name in names]
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


def heights(summary):
    """Expected height of each embedding: lines of a row, a gap between rows."""
    (ax,) = scores(summary, "accuracy").axes
    order = ["pca", *JOINED, *ALONE[1:], *CONTROLS[:2]]
    return ax, dict(zip(order, sorted(points(ax)), strict=True))


def test_a_row_for_each_embedding_with_controls_below(summary):
    ax, _ = heights(summary)
    assert labels(ax) == ["PCA", "Harmony (joint)", "RE", *CONTROLS[:2]]
    ticks = ax.get_yticks()
    assert ax.yaxis_inverted()
    assert ticks[3] - ticks[2] > ticks[2] - ticks[1]


def test_what_is_joined_with_an_embedding_is_in_its_row(summary):
    ax, at = heights(summary)
    lines = [at[name] for name in ["pca", *JOINED]]
    assert np.diff(lines).tolist() == [1, 1, 1]
    assert ax.get_yticks()[0] == np.mean(lines)
    assert at["harmony"] - lines[-1] > 1


def test_points_and_intervals_are_those_of_the_summary(summary):
    ax, at = heights(summary)
    expected = summary.query("metric == 'accuracy'").set_index("embedding")
    drawn = points(ax)
    intervals = {
        ends[0, 1]: (ends[0, 0], ends[1, 0])
        for lines in ax.collections
        for ends in lines.get_segments()
    }
    for name, y in at.items():
        assert drawn[y][0] == expected.loc[name, "mean"]
        assert intervals[y] == tuple(expected.loc[name, ["lower", "upper"]])


def test_marks_tell_the_kinds_apart_without_colours_too(summary):
    ax, at = heights(summary)
    drawn = points(ax)
    looks = {
        name: (line.get_marker(), to_hex(line.get_color()), to_hex(line.get_markerfacecolor()))
        for name, line in ((name, drawn[y][1]) for name, y in at.items())
    }
    grey, white = to_hex("0.5"), "#ffffff"
    joined = [("D", VERMILLION, VERMILLION), ("D", VERMILLION, white), ("s", grey, white)]
    assert [looks[name] for name in ALONE] == [("o", BLUE, BLUE)] * 3
    assert [looks[name] for name in JOINED] == joined
    assert [looks[name] for name in CONTROLS[:2]] == [("o", grey, white)] * 2


def test_a_plus_in_the_name_of_an_embedding_is_part_of_it(summary):
    named = summary.assign(embedding=summary["embedding"].replace("harmony", "RNA + ATAC"))
    assert labels(scores(named, "accuracy").axes[0])[1] == "RNA + ATAC (joint)"


def test_chance_is_a_line(summary):
    figure = scores(summary, "accuracy")
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "chance")
    mean = summary.query("embedding == 'chance'")["mean"].item()
    assert list(line.get_xdata()) == [mean, mean]
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    joined = ["with RE", "with RE, permuted labels", "with batch label"]
    assert entries == ["alone", "control alone", *joined, "chance"]


def test_a_panel_for_each_of_what_is_scored(summary):
    figure = scores(summary, "ASW")
    assert [ax.get_title() for ax in figure.axes] == ["batch", "label"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["ASW", "ASW"]
    assert labels(figure.axes[0]) == ["PCA", "Harmony (joint)", "RE"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["alone"]
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
    assert len(points(ax)) == len({*ALONE, *JOINED, *CONTROLS})
    for lines in ax.collections:
        assert all(ends.size == 0 for ends in lines.get_segments())


def test_result_of_a_cross_validation_is_accepted(summary):
    result = SimpleNamespace(summary=lambda: summary)
    assert labels(scores(result, "ASW").axes[0]) == labels(scores(summary, "ASW").axes[0])


def test_summary_without_marks_has_no_controls(summary):
    (ax,) = scores(summary.drop(columns=["control", "joint"]), "accuracy").axes
    assert labels(ax) == ["batch label", "PCA", "Harmony", "RE", CONTROLS[1]]
    assert np.diff(sorted(points(ax)))[-3:].tolist() == [2, 2, 2]


def test_long_names_and_many_rows_stay_inside_and_apart(summary):
    many = [summary.assign(embedding=f"{i} " + summary["embedding"] * 2) for i in range(6)]
    figure = scores(pd.concat(many), "accuracy")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert len(boxes) > 20
    assert all(box.x0 >= 0 for box in boxes)
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))
    assert figure.axes[0].get_window_extent().width > 2 * figure.dpi


def test_drawn_into_axes_of_the_caller(summary):
    figure, axes = plt.subplots(1, 2)
    plt.close(figure)
    assert scores(summary, "accuracy", ax=axes[1]) is figure
    assert not axes[0].has_data()
    assert labels(axes[1])[0] == "PCA"
    assert [text.get_text() for text in axes[1].get_legend().get_texts()][-1] == "chance"
    with pytest.raises(ValueError, match=r"panels for \['batch', 'label'\]: choose one"):
        scores(summary, "ASW", ax=axes[0])


@pytest.mark.slow
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
        ("ASW", "sex", "of='sex': ASW is available for batch, label"),
        ("ASW", [], "ASW is available for batch, label"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(summary, metric, of, match):
    with pytest.raises(KeyError, match=match):
        scores(summary, metric, of)


def test_table_of_folds_is_refused():
    with pytest.raises(KeyError, match=r"\['mean', 'lower', 'upper'\] not in the table.*summary"):
        scores(table(3), "ASW")
