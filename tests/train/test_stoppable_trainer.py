"""A training that the user stops leaves a model that can be used."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import scmedal_tools as smt
from scmedal_tools.model import _re

pytestmark = pytest.mark.slow

QUICK = {
    "batch_size": 128,
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "early_stopping_warmup_epochs": 0,
}


class Interruption(Callback):
    """Ctrl-C in the middle of an epoch; keeps the weights at the end of the others."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        self.epoch, self.error = epoch, error
        self.weights = []

    def on_validation_end(self, trainer, pl_module):
        self.weights.append({k: v.clone() for k, v in pl_module.module.state_dict().items()})

    def on_train_batch_end(self, trainer, *args):
        if trainer.current_epoch == self.epoch:
            raise self.error


def interrupt(model, epoch, **kwargs):
    callback = Interruption(epoch)
    with pytest.raises(KeyboardInterrupt):
        model.train(max_epochs=6, callbacks=[callback], **QUICK | kwargs)
    return callback.weights


def assert_finished(model, folder):
    """All that a trained model of the class has is there, and survives a file."""
    assert model.is_trained
    assert not model.module.training
    model.save(folder)
    loaded = type(model).load(folder, model.adata, accelerator="cpu")
    for found, expected in zip(results(loaded), results(model), strict=True):
        assert np.isfinite(np.asarray(expected)).all()
        np.testing.assert_array_equal(found, expected)
    if isinstance(model, smt.model.SCMEDAL_RE):
        assert model.module.expression_axes.any()
        assert model.is_finished
        assert len(model.get_batch_effects(n_samples=2, n_cells=20))


def results(model):
    yield model.get_latent_representation()
    yield model.get_reconstruction()
    if isinstance(model, smt.model.SCMEDAL_FEC):
        yield model.predict(soft=True)


def assert_network(model, weights):
    """The network has these weights; what is fitted after it is left out."""
    fitted_later = ("gene_effects", "expression_", "is_finished")
    for name, value in model.module.state_dict().items():
        if not name.startswith(fitted_later):
            torch.testing.assert_close(value, weights[name])


@pytest.fixture
def model(build, adata):
    return build("SCMEDAL_RE", adata)


@pytest.fixture(params=["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"])
def of_each_class(request, build, adata):
    return build(request.param, adata, {"labels_key": "cell_type"})


def test_first_training(of_each_class, tmp_path):
    model = of_each_class
    with pytest.warns(UserWarning, match=r"interrupted in epoch 2 of 6.*weights of epoch [01] "):
        weights = interrupt(model, 2)
    assert len(model.history["train_loss"]) == 2
    assert_finished(model, tmp_path / "model")
    assert_network(model, weights[model.best_epoch_])


def test_second_training(of_each_class, tmp_path):
    model = of_each_class
    model.train(max_epochs=2, **QUICK)
    with pytest.warns(UserWarning, match="interrupted in epoch 1 of 6"):
        weights = interrupt(model, 1)
    assert len(model.history["train_loss"]) == 3
    assert_finished(model, tmp_path / "model")
    assert_network(model, weights[0])


def test_effects_of_new_donors(fit, adata, tmp_path):
    known = (adata.obs["donor"] != "donor_04").to_numpy()
    reference = fit("SCMEDAL_RE", adata[known].copy(), early_stopping=False)
    query = smt.model.SCMEDAL_RE.load_query_data(adata[~known].copy(), reference)
    with pytest.warns(UserWarning, match="interrupted in epoch 2 of 6"):
        interrupt(query, 2)
    assert len(query.history["train_loss"]) == 2
    assert "donor_04" in query.batch_names
    assert_finished(query, tmp_path / "model")


def test_second_training_in_its_first_epoch(model, tmp_path):
    model.train(max_epochs=2, **QUICK)
    with pytest.warns(UserWarning, match=r"interrupted in epoch 0 of 6.*of the last step"):
        interrupt(model, 0)
    assert_finished(model, tmp_path / "model")


def test_after_the_last_epoch(model, tmp_path, monkeypatch):
    """The network is trained; what follows can be done another time."""

    def interrupt_it(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_re, "fit_gene_effects", interrupt_it)
        with pytest.raises(KeyboardInterrupt):
            model.train(max_epochs=2, **QUICK)
    assert model.is_trained
    assert not model.is_finished
    with pytest.warns(UserWarning, match=r"not fitted.*`model.finish\(\)`"):
        model.get_reconstruction()
    model.finish()
    assert_finished(model, tmp_path / "model")


def test_without_early_stopping_the_last_weights_stay(model, tmp_path):
    with pytest.warns(UserWarning, match="weights of the last step"):
        weights = interrupt(model, 2, early_stopping=False)
    assert_finished(model, tmp_path / "model")
    with pytest.raises(AssertionError):
        assert_network(model, weights[-1])  # the interrupted epoch has begun


def test_before_the_first_epoch_ends_there_is_no_model(model):
    interrupt(model, 0)
    assert not model.is_trained


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_RE"])
def test_an_error_in_a_second_training(build, adata, name):
    """The model has the best weights of that training, and draws no dropout when it is used."""
    model = build(name, adata)
    model.train(max_epochs=2, **QUICK)
    callback = Interruption(2, RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        model.train(max_epochs=6, callbacks=[callback], **QUICK)
    assert model.is_trained
    first, second = (model.get_latent_representation() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    weights = {k: v for k, v in model.module.state_dict().items() if "gene_effects" not in k}
    assert any(
        all(torch.equal(value, of_epoch[key]) for key, value in weights.items())
        for of_epoch in callback.weights
    )
    assert not getattr(model, "is_finished", False)


@pytest.mark.parametrize("name", ["SCMEDAL_FE", "SCMEDAL_RE"])
def test_a_training_that_diverges_is_stopped(build, adata, name):
    model = build(name, adata)
    with pytest.raises(ValueError, match=r"loss of epoch 0 is not a finite number.*Lower the"):
        model.train(max_epochs=6, plan_kwargs={"lr": 1e25}, **QUICK)
    assert not model.is_trained
    with pytest.raises(RuntimeError, match="not trained"):
        model.get_latent_representation()


class Divergence(Callback):
    """Weights that are not numbers, from an epoch on."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, plan):
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                next(plan.module.parameters()).fill_(torch.nan)


@pytest.fixture(scope="module", params=["SCMEDAL_FE", "SCMEDAL_FEC", "SCMEDAL_RE"])
def trained(request, fit, cells):
    """A model that tests may train further."""
    setup = {"labels_key": "cell_type"} if request.param == "SCMEDAL_FEC" else None
    return fit(request.param, cells.copy(), setup)


@pytest.mark.parametrize("epoch", [0, 2])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_second_training_that_diverges_changes_nothing(trained, early_stopping, epoch):
    model = trained
    latent, cells = model.get_latent_representation(), model.train_indices
    assert np.isfinite(latent).all()  # as the case before has left it
    weights = {key: values.clone() for key, values in model.module.state_dict().items()}
    with pytest.raises(ValueError, match="not a finite number") as raised:
        model.train(
            max_epochs=3,
            callbacks=[Divergence(epoch)],
            early_stopping=early_stopping,
            train_size=0.7,
            **QUICK,
        )
    assert raised.value.__notes__ == ["The model is as it was before this training."]
    for key, values in model.module.state_dict().items():
        assert torch.equal(values, weights[key]), key
    np.testing.assert_array_equal(model.get_latent_representation(), latent)
    np.testing.assert_array_equal(model.train_indices, cells)
    model.train(max_epochs=1, **QUICK)
    assert np.isfinite(model.get_latent_representation()).all()


def test_other_ends_of_the_process_are_not_caught(model):
    with pytest.raises(SystemExit):
        model.train(max_epochs=6, callbacks=[Interruption(2, SystemExit)], **QUICK)
    assert not model.is_trained
