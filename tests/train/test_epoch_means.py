"""Losses are logged once an epoch, as means over its cells."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from scmedal_tools.train._epoch_means import EpochMeans, MinibatchMeans

SPLIT = [np.arange(150), np.arange(150, 200), np.arange(200, 240)]
QUICK = {"datasplitter_kwargs": {"external_indexing": SPLIT}, "batch_size": 64}


class Watcher(Callback):
    """Losses and sizes of the minibatches of each epoch, and what is logged of them."""

    def __init__(self):
        self.epochs, self.logged = [], []

    def on_train_epoch_start(self, *_):
        self.epochs.append([])

    def on_train_batch_end(self, _, __, outputs, batch, ___):
        self.epochs[-1].append((float(outputs["loss"]), len(batch["X"])))

    def on_train_epoch_end(self, trainer, _):
        self.logged.append(trainer.callback_metrics.get("train_loss"))

    @property
    def expected(self):
        pairs = [np.array(epoch).T for epoch in self.epochs]
        return [np.average(losses, weights=sizes) for losses, sizes in pairs]


def loss_of(value, **kwargs):
    return MinibatchMeans.of({"loss": torch.tensor(value, **kwargs)})


def test_minibatches_count_by_their_cells():
    means = EpochMeans()
    means.add(loss_of(1.0), 3)
    means.add(loss_of(5.0, requires_grad=True), 1)
    assert means.take() == {"loss": torch.tensor(2.0)}


def test_the_next_epoch_starts_from_nothing():
    means = EpochMeans()
    means.add(loss_of(1.0), 3)
    means.take()
    assert means.take() == {}
    means.add(loss_of(7.0), 2)
    assert means.take() == {"loss": torch.tensor(7.0)}


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_sums_fit_in_low_precision(precision):
    means = EpochMeans()
    for _ in range(1000):
        means.add(loss_of(600.0, dtype=precision), 256)
    assert float(means.take()["loss"]) == pytest.approx(600, rel=1e-3)


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_RE"])
def test_an_epoch_whose_last_minibatch_is_small(fit, adata, name):
    watcher = Watcher()
    model = fit(name, adata, max_epochs=2, callbacks=[watcher], **QUICK)
    assert [size for _, size in watcher.epochs[0]] == [64, 64, 22]
    assert np.allclose(model.history["train_loss"].to_numpy(float).ravel(), watcher.expected)
    # A callback finds the loss of the epoch that ends.
    assert np.allclose([float(loss) for loss in watcher.logged], watcher.expected)


def test_an_epoch_that_ends_before_its_last_minibatch(fit, adata):
    watcher = Watcher()
    # Lightning counts the steps of all optimisers: three of the adversary, one of the other.
    stops = {"max_steps": 5 * 4, "early_stopping": False}
    model = fit("SCMEDAL_FE", adata, max_epochs=9, callbacks=[watcher], **QUICK | stops)
    assert len(watcher.epochs[-1]) < 3
    logged = model.history["train_loss"].to_numpy(float).ravel()
    assert np.allclose(logged, watcher.expected)


def test_terms_are_logged_as_scvi_tools_does(fit, adata):
    history = fit("SCMEDAL_RE", adata, max_epochs=1, **QUICK).history
    for stage, n_cells in (("train", 150), ("validation", 50)):
        reconstruction, kl, elbo = (
            float(history[f"{term}_{stage}"].iloc[0, 0])
            for term in ("reconstruction_loss", "kl_global", "elbo")
        )
        assert kl > 0
        assert elbo == pytest.approx(reconstruction + kl / n_cells, rel=1e-5)
