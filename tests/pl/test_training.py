"""The loss curves: which entries of a history are drawn, where, and with which values."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scmedal_tools.pl import training
from scmedal_tools.pl._training import TITLES


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


def _every_term(history):
    return training(history, every_term=True)


def _curves(ax):
    return {line.get_label(): line for line in ax.lines}


def test_main_terms_by_default_without_the_total_loss(history):
    ax, latent = training(history).axes
    assert (ax.get_title(), ax.get_ylabel()) == (
        "Does the reconstruction improve?",
        "reconstruction loss",
    )
    assert latent.get_ylabel() == "KL of the latent"


def test_main_terms_of_the_models(history):
    for term in TITLES:
        history |= _entry(f"{term}_train", [2.0, 1.0]) | _entry(f"weighted_{term}_train", [1, 2])
    titles = [ax.get_title() for ax in training(history | _entry("mse_train", [2, 1])).axes]
    assert titles == list(TITLES.values())


def test_histories_without_main_terms_are_drawn_whole():
    history = _entry("train_loss", [2.0, 1.0]) | _entry("mse_train", [2.0, 1.0])
    assert [ax.get_title() for ax in training(history).axes] == ["total loss", "MSE"]


class TestCeiling:
    @pytest.fixture
    def model(self, history):
        history |= _entry("adversary_ce_train", [1.0, 2.0])
        return SimpleNamespace(history=history, module=SimpleNamespace(batch_entropy=2.4))

    def test_is_a_dashed_line_for_the_adversary_alone(self, model):
        figure = training(model)
        for ax in figure.axes:
            found = [line for line in ax.lines if set(line.get_ydata()) == {2.4}]
            assert len(found) == (ax.get_title() == "Can the adversary predict the batch?")
            assert all(line.get_linestyle() == "--" for line in found)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert labels[-1] == "ceiling: the batch cannot be predicted"

    def test_is_of_models_with_an_adversary(self, model):
        for without in (model.history, SimpleNamespace(**vars(model))):
            if without is not model.history:
                del without.history["adversary_ce_train"]
            labels = [text.get_text() for text in training(without).legends[0].get_texts()]
            assert labels == ["train", "validation"]


def test_one_panel_for_each_term_total_loss_first(history):
    titles = [ax.get_title() for ax in _every_term(history).axes]
    assert titles == ["total loss", *(TITLES[x] for x in ("reconstruction_loss", "kl_local"))]


def test_curves_are_those_of_the_history(history):
    total, reconstruction, kl = _every_term(history).axes
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
    curves = _curves(_every_term(history).axes[0])
    assert curves["train"].get_linestyle() == "-"
    assert curves["validation"].get_linestyle() == "--"
    assert curves["train"].get_color() != curves["validation"].get_color()


def test_one_legend_for_all_panels(history):
    (legend,) = _every_term(history).legends
    assert [text.get_text() for text in legend.get_texts()] == ["train", "validation"]


def test_log_axis_only_for_positive_terms_of_a_wide_range(history):
    history |= _entry("signed_train", [-1.0, 1000.0])
    scales = [ax.get_yscale() for ax in _every_term(history).axes]
    assert scales == ["linear", "linear", "log", "linear"]


def test_entries_that_are_not_loss_curves_are_left_out(history):
    expected = len(_every_term(history).axes)
    history |= _entry("kl_weight", [0.0, 0.5, 1.0])
    history |= _entry("absent_train", [np.nan, np.nan])
    history |= _entry("once_train", [1.0])
    history["scalar_train"] = 3.0
    assert len(_every_term(history).axes) == expected


def test_gaps_of_a_curve_are_skipped():
    curve = _curves(training(_entry("train_loss", [3.0, np.nan, 1.0])).axes[0])["train"]
    assert list(curve.get_xdata()) == [0, 2]


def test_model_is_accepted_and_its_best_epoch_marked(history):
    figure = _every_term(SimpleNamespace(history=history, best_epoch_=2))
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
    assert set(_curves(_every_term(model).axes[0])) == {"train", "validation"}


@pytest.fixture
def weighted(history):
    return (
        history
        | _entry("weighted_reconstruction_train", [-400.0, -300.0, 20.0, 30.0])
        | _entry("weighted_reconstruction_validation", [410.0, 310.0, 30.0, 40.0])
        | _entry("weighted_adversary_train", [2.0, 0.0, 1.0, 1.0])
        | _entry("weighted_kl_train", [0.0, 0.0, 0.0, 0.0])
    )


class TestContributions:
    def test_share_one_logarithmic_axis_beside_the_total_loss(self, weighted):
        figure = _every_term(weighted)
        titles = [ax.get_title() for ax in figure.axes]
        assert titles[:2] == ["total loss", "weighted contributions (magnitude)"]
        assert titles[2:] == [TITLES["reconstruction_loss"], TITLES["kl_local"]]
        total, ax, *_ = figure.axes
        assert ax.get_yscale() == "log"
        assert ax.get_subplotspec().colspan == range(1, 3)
        assert total.get_subplotspec().colspan == range(1)

    def test_are_magnitudes(self, weighted):
        train, validation, named, *_ = _every_term(weighted).axes[1].lines
        assert list(train.get_ydata()) == [400, 300, 20, 30]
        assert list(validation.get_ydata()) == [410, 310, 30, 40]
        assert [line.get_linestyle() for line in (train, validation)] == ["-", "--"]
        assert train.get_color() == validation.get_color() == named.get_color()
        assert named.get_label() == "reconstruction"

    def test_of_terms_that_are_there_are_named(self, weighted):
        ax = _every_term(weighted).axes[1]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == [
            "reconstruction",
            "adversary",
        ]
        assert len({line.get_color() for line in ax.lines}) == 2

    @pytest.mark.slow
    def test_limits_are_finite_where_one_is_zero(self, weighted):
        figure = _every_term(weighted)
        figure.draw_without_rendering()
        low, high = figure.axes[1].get_ylim()
        assert 0 < low <= 1
        assert 410 <= high < np.inf


class TestFolds:
    @pytest.fixture
    def folds(self, history):
        lower = {name: 0.5 * values.iloc[:3] for name, values in history.items()}
        return [history, lower, history]

    def test_mean_and_range_over_folds_up_to_the_shortest(self, folds):
        ax = _every_term(folds).axes[0]
        curve = _curves(ax)["train"]
        np.testing.assert_array_equal(curve.get_xdata(), [0, 1, 2])
        np.testing.assert_allclose(curve.get_ydata(), np.array([4, 3, 2]) * 2.5 / 3)
        band = ax.collections[0].get_paths()[0].vertices
        assert {tuple(point) for point in band} >= {(0, 4), (0, 2), (2, 2), (2, 1)}

    def test_legend_says_what_is_drawn(self, folds):
        (legend,) = _every_term(folds).legends
        assert [text.get_text() for text in legend.get_texts()] == [
            "train (mean and range of 3 folds)",
            "validation (mean and range of 3 folds)",
        ]

    def test_every_fold_has_its_best_epoch(self, folds):
        models = [SimpleNamespace(history=h, best_epoch_=i) for i, h in enumerate(folds)]
        figure = _every_term(models)
        marked = [line for line in figure.axes[0].lines if line.get_label() == "best epoch"]
        assert [line.get_xdata()[0] for line in marked] == [0, 1, 2]
        assert len(figure.legends[0].get_texts()) == 3

    def test_one_is_drawn_as_it_is(self, history):
        ax = _every_term([history]).axes[0]
        assert not ax.collections
        assert list(_curves(ax)["train"].get_ydata()) == [4, 3, 2, 1]

    def test_of_different_terms_are_refused(self, folds):
        with pytest.raises(ValueError, match="Some folds have no 'extra_train'"):
            training([*folds, folds[0] | _entry("extra_train", [1.0, 2.0])])

    def test_none_are_refused(self):
        with pytest.raises(ValueError, match="list is empty"):
            training([])


def test_many_terms_wrap_into_rows():
    history = {}
    for i in range(6):
        history |= _entry(f"term{i}_train", [2.0, 1.0])
    positions = [
        ax.get_subplotspec().get_topmost_subplotspec() for ax in _every_term(history).axes
    ]
    assert [position.rowspan.start for position in positions] == [0, 0, 0, 0, 1, 1]


@pytest.mark.slow
def test_figure_is_saved_and_pyplot_keeps_nothing(history, tmp_path):
    figures, settings = plt.get_fignums(), dict(plt.rcParams)
    figure = training(history, save=tmp_path / "losses.pdf")
    assert (tmp_path / "losses.pdf").read_bytes().startswith(b"%PDF")
    assert len(figure.axes) == 2
    assert plt.get_fignums() == figures
    assert dict(plt.rcParams) == settings


@pytest.mark.parametrize("untrained", [{}, SimpleNamespace(history=None)])
def test_no_history_is_refused(untrained):
    with pytest.raises(ValueError, match="train the model first"):
        training(untrained)


def test_history_of_one_epoch_is_refused():
    with pytest.raises(ValueError, match=r"two epochs or more.*train_loss"):
        training(_entry("train_loss", [1.0]))
