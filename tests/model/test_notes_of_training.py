"""What is said when a training goes on, or ends before its last epoch."""

import logging

import pytest

QUICK = {"accelerator": "cpu", "batch_size": 64, "enable_progress_bar": False}


@pytest.fixture
def notes(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
    caplog.set_level("INFO", logger="lightning.pytorch")
    # Each once: another test may have left a handler.
    return lambda word: list({text: None for text in caplog.messages if word in text})


def test_a_trained_model_continues(build, adata, notes):
    model = build("SCMEDAL_FE", adata)
    model.train(max_epochs=2, **QUICK)
    assert notes("continues") == []
    model.train(max_epochs=1, **QUICK)
    (note,) = notes("continues")
    assert "continues from 2 epoch(s)" in note
    assert "trained for 3 epochs" in repr(model)


def test_a_training_that_no_longer_improves_has_not_failed(build, adata, notes, capsys):
    model = build("SCMEDAL_FE", adata)
    patience = {"early_stopping_warmup_epochs": 0, "early_stopping_patience": 1}
    model.train(max_epochs=9, early_stopping_min_delta=1e9, **patience, **QUICK)
    n_epochs = len(model.history["train_loss"])
    assert n_epochs < 9
    assert notes("no longer") == [
        f"Training stopped after {n_epochs} epochs: no longer improving."
    ]
    assert "Signaling" not in capsys.readouterr().out


def test_a_training_to_the_end_has_no_note(build, adata, notes):
    build("SCMEDAL_FE", adata).train(max_epochs=2, **QUICK)
    assert notes("no longer") == []
