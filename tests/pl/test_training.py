"""The loss curves: which entries of a history are drawn, where, and with which values."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scmedal_tools.pl import training


def _entry(name, values, epochs=None):
    epochs = range(len(values)) if epochs is None else epochs
    return {name: pd.DataFrame({name: values}, index=pd.Index(epochs, name="epoch"))}


@pytest.fixture
def history():
    return (
        _entry("reconstruction_loss_train", [9.0, 5.0, 4.0, 3.5])
        | _entry("reconstruction_loss_validation", [10.0, 6.0], epochs=[0, 2])
        | _entry("kl_local_train", [1000.0, 100.0, 10.0, 1.0])
        | _entry("train_loss", [4.0, 3.0, 2.0, 1.0])
        | _entry("validation_loss", [4.5, 3.5, 2.5, 2.0])
    )


def _curves(ax):
    return {line.get_label(): line for line in ax.lines}


def test_one_panel_for_each_term_total_loss_first(history):
    titles = [ax.get_title() for ax in training(history).axes]
    assert titles == ["total loss", "reconstruction loss", "KL local"]


def test_curves_are_those_of_the_history(history):
    total, reconstruction, kl = training(history).axes
    expected = [
        (total, "train", "train_loss"),
        (total, "validation", "validation_loss"),
        (reconstruction, "train", "reconstruction_loss_train"),
        (reconstruction, "validation", "reconstruction_loss_validation"),
        (kl, "train", "kl_local_train"),
    ]
    for ax, label, name in expected:
        curve = _curves(ax)[label]
        np.testing.assert_array_equal(curve.get_xdata(), history[name].index)
        np.testing.assert_array_equal(curve.get_ydata(), history[name][name])
    assert set(_curves(kl)) == {"train"}


def test_train_is_solid_and_validation_dashed(history):
    curves = _curves(training(history).axes[0])
    assert curves["train"].get_linestyle() == "-"
    assert curves["validation"].get_linestyle() == "--"
    assert curves["train"].get_color() != curves["validation"].get_color()


def test_one_legend_for_all_panels(history):
    (legend,) = training(history).legends
    assert [text.get_text() for text in legend.get_texts()] == ["train", "validation"]


def test_log_axis_only_for_positive_terms_of_a_wide_range(history):
    history |= _entry("signed_train", [-1.0, 1000.0])
    scales = [ax.get_yscale() for ax in training(history).axes]
    assert scales == ["linear", "linear", "log", "linear"]


def test_entries_that_are_not_loss_curves_are_left_out(history):
    expected = len(training(history).axes)
    history |= _entry("kl_weight", [0.0, 0.5, 1.0])
    history |= _entry("absent_train", [np.nan, np.nan])
    history |= _entry("once_train", [1.0])
    history["scalar_train"] = 3.0
    assert len(training(history).axes) == expected


def test_gaps_of_a_curve_are_skipped():
    curve = _curves(training(_entry("train_loss", [3.0, np.nan, 1.0])).axes[0])["train"]
    assert list(curve.get_xdata()) == [0, 2]


def test_model_is_accepted_and_its_best_epoch_marked(history):
    figure = training(SimpleNamespace(history=history, best_epoch_=2))
    for ax in figure.axes:
        marker = _curves(ax)["best epoch"]
        assert marker.get_linestyle() == ":"
        assert list(marker.get_xdata()) == [2, 2]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["train", "validation", "best epoch"]


@pytest.mark.parametrize("best_epoch", [None, "absent"])
def test_model_without_best_epoch_has_no_marker(history, best_epoch):
    model = SimpleNamespace(history=history)
    if best_epoch is None:
        model.best_epoch_ = None
    assert set(_curves(training(model).axes[0])) == {"train", "validation"}


def test_many_terms_wrap_into_rows():
    history = {}
    for i in range(6):
        history |= _entry(f"term{i}_train", [2.0, 1.0])
    positions = [ax.get_subplotspec().get_topmost_subplotspec() for ax in training(history).axes]
    assert [position.rowspan.start for position in positions] == [0, 0, 0, 0, 1, 1]


def test_figure_is_saved_and_pyplot_keeps_nothing(history, tmp_path):
    figures, settings = plt.get_fignums(), dict(plt.rcParams)
    figure = training(history, save=tmp_path / "losses.pdf")
    assert (tmp_path / "losses.pdf").read_bytes().startswith(b"%PDF")
    assert len(figure.axes) == 3
    assert plt.get_fignums() == figures
    assert dict(plt.rcParams) == settings


@pytest.mark.parametrize("untrained", [{}, SimpleNamespace(history=None)])
def test_no_history_is_refused(untrained):
    with pytest.raises(ValueError, match="train the model first"):
        training(untrained)


def test_history_of_one_epoch_is_refused():
    with pytest.raises(ValueError, match=r"two epochs or more.*train_loss"):
        training(_entry("train_loss", [1.0]))
