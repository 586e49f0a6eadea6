"""The same models on a GPU: what they compute there is what they compute on the CPU."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import scmedal_tools as smt

from .conftest import MODELS, SETUP

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def on_gpu(fit, labelled):
    def train(name, **model):
        return fit(name, labelled.copy(), SETUP, model=model, accelerator="gpu", devices=1)

    return train


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("name", MODELS)
def test_trained_there_and_read_on_the_cpu(on_gpu, fresh, tmp_path, name, preset):
    model = on_gpu(name, preset=preset)
    assert model.device.type == "cuda"
    assert np.isfinite(model.history["train_loss"].to_numpy(float)).all()
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", adata=False, accelerator="cpu")
    assert loaded.device.type == "cpu"
    for verb in ("get_latent_representation", "get_reconstruction"):
        ours, expected = (np.asarray(getattr(m, verb)(fresh)) for m in (model, loaded))
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3, err_msg=verb)


def test_first_losses_are_those_of_the_cpu(fit, labelled):
    for name in MODELS:
        losses = [
            fit(name, labelled.copy(), SETUP, accelerator=device).history["train_loss"]
            for device in ("cpu", "gpu")
        ]
        ours, expected = (loss.to_numpy(float)[0] for loss in losses)
        np.testing.assert_allclose(ours, expected, rtol=0.1, err_msg=name)


def test_random_effects(on_gpu, fresh, tmp_path):
    model = on_gpu("SCMEDAL_RE")
    model.save(tmp_path / "model")
    loaded = smt.model.SCMEDAL_RE.load(tmp_path / "model", adata=False, accelerator="cpu")
    targets = ["donor_01", "population"]
    ours, expected = (
        m.get_counterfactual_expression(fresh, transform_batch=targets) for m in (model, loaded)
    )
    for target in targets:
        np.testing.assert_allclose(ours[target], expected[target], rtol=1e-3, atol=1e-3)
    intervals = model.get_counterfactual_expression(
        fresh, transform_batch="donor_01", n_samples=50, interval=0.9
    )
    assert np.isfinite(intervals.to_numpy()).all()


def test_new_donor(on_gpu, fresh):
    model = on_gpu("SCMEDAL_RE")
    fresh.obs["donor"] = "new"
    query = smt.model.SCMEDAL_RE.load_query_data(fresh, model)
    query.train(max_epochs=2, accelerator="gpu", devices=1, enable_progress_bar=False)
    assert query.device.type == "cuda"
    shift = query.get_counterfactual_expression(fresh, transform_batch="new")
    assert torch.isfinite(torch.as_tensor(np.asarray(shift))).all()


def test_cells_are_kept_there_while_a_network_is_trained(on_gpu):
    before = torch.cuda.memory_allocated()
    model = on_gpu("SCMEDAL_FE", preset="paper")
    splitter = model.trainer.datamodule
    assert splitter._cells is None
    model.module.to("cpu")
    assert torch.cuda.memory_allocated() - before < 1e6
    # Without dropout and draws the weights are those of minibatches that are sent one by one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(splitter), "_device_for_cells", lambda _: None)
        expected = on_gpu("SCMEDAL_FE", preset="paper").module.state_dict()
    for name, values in model.module.state_dict().items():
        torch.testing.assert_close(values, expected[name].cpu(), rtol=1e-4, atol=1e-5, msg=name)


class NoWaiting(Callback):
    """Make it an error to wait for the GPU, between the first and the last minibatch of an epoch.

    The order of the cells is sent before the first, in which optimisers also allocate. After the
    last the means of the epoch are logged, for which Lightning sends numbers to the GPU.
    """

    n_steps = 0

    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if batch_idx == 1:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        self.n_steps += bool(torch.cuda.get_sync_debug_mode())
        if batch_idx == trainer.num_training_batches - 2:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def no_waiting():
    yield NoWaiting()
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("name", MODELS)
def test_no_step_waits_for_the_gpu(fit, labelled, no_waiting, name, preset):
    on_gpu = {"accelerator": "gpu", "devices": 1, "callbacks": [no_waiting]}
    fit(name, labelled.copy(), SETUP, model={"preset": preset}, **on_gpu)
    assert no_waiting.n_steps == 2 * 2  # of two epochs of four minibatches


def test_waiting_would_be_an_error(no_waiting):
    no_waiting.on_train_batch_start(None, None, None, 1)
    with pytest.raises(RuntimeError, match="synchroniz"):
        torch.ones((), device="cuda").item()
