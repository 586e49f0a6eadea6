"""Whether a training was too short."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scmedal_tools._cli._end_of_training import still_improving, why_it_ended
from scmedal_tools.train import SELECTION

STEADY = 100 - np.arange(40.0)
FLAT = np.append(STEADY, STEADY[-1] - 0.01 * np.arange(1, 61))
STEEP_START = np.append([2000.0, 1000.0, 400.0], STEADY)
UNEVEN = STEADY + np.append(np.zeros(39), 5.0)


def trained(values, best_epoch):
    history = {SELECTION: pd.DataFrame({SELECTION: values})}
    return SimpleNamespace(history=history, best_epoch_=best_epoch)


@pytest.mark.parametrize(
    ("values", "best_epoch", "expected"),
    [
        (STEADY, 39, True),
        (STEADY - 1000, 39, True),  # nats have no zero
        (STEEP_START, 42, True),
        (UNEVEN, 38, True),
        (STEADY[::-1], 0, False),
        (FLAT, 99, False),
        (STEADY[:2], 1, True),
        (STEADY[:1], 0, True),
    ],
)
def test_by_what_the_last_epochs_gained(values, best_epoch, expected):
    assert still_improving(trained(values, best_epoch)) is expected


class SCMEDAL_RE(SimpleNamespace):  # as the model, whose preset is looked up
    best_epoch_ = None


@pytest.mark.parametrize(
    ("preset", "values", "expected"),
    [
        ("default", STEADY[:4], True),
        ("default", STEADY[:1], True),
        ("default", [100.0, 50.0, 49.9], True),
        ("default", [100.0, 50.0, 51.0], False),
        ("paper", STEADY[:4], False),
    ],
)
def test_within_the_warm_up_of_early_stopping(preset, values, expected):
    history = {SELECTION: pd.DataFrame({SELECTION: values})}
    assert still_improving(SCMEDAL_RE(history=history, preset_=preset)) is expected


def test_without_early_stopping_it_is_not_known():
    assert not still_improving(SimpleNamespace(history={}, best_epoch_=None))


@pytest.mark.parametrize(
    ("n_epochs", "expected"),
    [(79, "stopped after 79 epochs: no longer improving"), (100, "all 100 epochs")],
)
def test_why_it_ended(n_epochs, expected):
    trainer = SimpleNamespace(current_epoch=n_epochs, max_epochs=100)
    assert why_it_ended(SimpleNamespace(trainer=trainer)) == expected
