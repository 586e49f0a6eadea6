"""The best weights are those of the epoch with the smallest monitored value."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback

from scmedal_tools.train._best_weights import BestWeights


class Module(torch.nn.Module):
    """One weight that is trained, and others that are fitted afterwards."""

    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(1, 1, bias=False)
        self.fitted = torch.nn.Linear(5, 7)

    def trained_state(self):
        return self.network.state_dict()


def follow(values, **kwargs):
    """Weight after a training whose weight is the epoch's number, and the callback."""
    callback = BestWeights("loss", **kwargs)
    plan = SimpleNamespace(module=Module())
    for epoch, value in enumerate(values):
        plan.module.network.weight.data.fill_(epoch)
        metrics = {} if value is None else {"loss": torch.tensor(value)}
        trainer = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch)
        callback.on_validation_end(trainer, plan)
    callback.on_fit_end(trainer, plan)
    return plan.module.network.weight.item(), callback.best_epoch


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([3.0, 1.0, 2.0], 1),
        ([1.0, 1.0, 2.0], 0),
        ([float("nan"), 2.0, float("nan")], 1),
        ([None, 5.0, None, 6.0], 1),
    ],
)
def test_smallest_value_wins(values, best):
    assert follow(values) == (best, best)


def test_largest_value_wins_where_it_is_asked_for():
    assert follow([1.0, 3.0, 2.0], mode="max") == (1, 1)


def test_warm_up_does_not_count():
    assert follow([0.0, 0.1, 3.0, 2.0, 4.0], warmup_epochs=2) == (3, 3)


def test_without_a_value_the_last_weights_stay():
    assert follow([1.0, 2.0], warmup_epochs=5) == (1, None)


def test_memory_is_taken_once_and_not_for_what_is_fitted_afterwards():
    callback, module = BestWeights("loss"), Module()
    places = []
    for epoch in range(2):
        metrics = {"loss": torch.tensor(-float(epoch))}
        trainer = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch)
        callback.on_validation_end(trainer, SimpleNamespace(module=module))
        assert list(callback._weights) == ["weight"]
        places.append({name: x.data_ptr() for name, x in callback._weights.items()})
    assert places[0] == places[1]


@pytest.mark.parametrize("bias", [True, False])
def test_a_network_that_changes_is_refused(bias):
    callback, plan = BestWeights("loss"), SimpleNamespace(module=Module())
    plan.module.network = torch.nn.Linear(1, 1, bias=bias)
    trainer = SimpleNamespace(callback_metrics={"loss": torch.tensor(1.0)}, current_epoch=0)
    callback.on_validation_end(trainer, plan)
    plan.module.network = torch.nn.Linear(1, 1, bias=not bias)
    with pytest.raises(RuntimeError, match=r"gained or lost weights .* \(bias\)"):
        callback.on_fit_end(trainer, plan)


def test_effects_on_genes_are_fitted_afterwards(build, adata):
    """They are the most of a model with many batches."""
    module = build("SCMEDAL_RE", adata).module
    left_out = module.state_dict().keys() - module.trained_state().keys()
    assert left_out == {name for name in module.state_dict() if name.startswith("gene_effects.")}
    assert left_out


class Snapshots(Callback):
    """Weights at the end of every validation."""

    def __init__(self):
        self.weights = []

    def on_validation_end(self, trainer, pl_module):
        self.weights.append({k: v.clone() for k, v in pl_module.module.state_dict().items()})


def overshoot(trainer, *_):
    """Take steps from the sixth epoch on that are far too large."""
    if trainer.current_epoch == 5:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = 10.0


@pytest.fixture(scope="module")
def overshot(fit, cells):
    """Model whose best epoch is not the last."""
    snapshots = Snapshots()
    model = fit(
        "SCMEDAL_FE",
        cells.copy(),
        model={"adversary_weight": 0},
        max_epochs=8,
        callbacks=[snapshots, LambdaCallback(on_train_epoch_start=overshoot)],
        early_stopping=True,
        early_stopping_patience=50,
        early_stopping_warmup_epochs=0,
    )
    return model, snapshots.weights


def test_model_has_the_weights_of_its_best_epoch(overshot):
    model, weights = overshot
    selection = model.history["selection_validation"].to_numpy(dtype=float).ravel()
    assert model.best_epoch_ == selection.argmin() < len(selection) - 1
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(value, weights[model.best_epoch_][name])


def test_the_mode_of_early_stopping_is_that_of_the_best_weights(fit, cells):
    model = fit(
        "SCMEDAL_FE",
        cells.copy(),
        max_epochs=4,
        early_stopping=True,
        early_stopping_mode="max",
        early_stopping_warmup_epochs=0,
    )
    selection = model.history["selection_validation"].to_numpy(dtype=float).ravel()
    assert selection.argmax() != selection.argmin()
    assert model.best_epoch_ == selection.argmax()


def test_best_epoch_can_be_evaluated_again(overshot):
    model, _ = overshot
    cells = model.validation_indices
    x = model.adata.X[cells].toarray()
    mse = np.square(model.get_reconstruction(indices=cells, return_numpy=True) - x).mean()
    logged = model.history["mse_validation"].to_numpy(dtype=float).ravel()
    assert mse == pytest.approx(logged[model.best_epoch_], rel=1e-4)


def test_training_stops_when_nothing_is_gained(fit, adata):
    model = fit(
        "SCMEDAL_FE",
        adata,
        model={"adversary_weight": 0},
        max_epochs=20,
        plan_kwargs={"lr": 0.0},
        early_stopping=True,
        early_stopping_patience=2,
        early_stopping_warmup_epochs=0,
    )
    assert len(model.history["train_loss"]) == 3
    assert model.best_epoch_ == 0
