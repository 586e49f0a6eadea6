"""Cells on the device: the same minibatches as from the loader of scvi-tools."""

import weakref
from types import SimpleNamespace

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from scipy import sparse

from scmedal_tools.train import _splits
from scmedal_tools.train._resident_cells import ResidentCells, SparseRows
from scmedal_tools.train._splits import MedalDataSplitter

CPU = torch.device("cpu")
SETUP = {"labels_key": "cell_type", "random_effect_keys": ["plate"]}


@pytest.fixture
def plates(adata):
    adata.obs["plate"] = np.array(list("ABCDE"))[np.arange(240) % 5]
    return adata


@pytest.fixture
def on_device(monkeypatch):
    """Let the processor be the device that has room for the cells."""
    monkeypatch.setattr(MedalDataSplitter, "_device_for_cells", lambda _: CPU)


FORMATS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "dense": lambda x: x.toarray(),
}


@pytest.mark.slow
@pytest.mark.parametrize("convert", FORMATS.values(), ids=FORMATS)
def test_a_training_is_the_same(fit, plates, request, convert):
    plates.X = convert(plates.X)
    usual = fit("SCMEDAL_RE", plates.copy(), SETUP)
    request.getfixturevalue("on_device")
    resident = fit("SCMEDAL_RE", plates, SETUP)
    expected = usual.module.state_dict()
    for name, values in resident.module.state_dict().items():
        assert torch.equal(values, expected[name]), name


@pytest.mark.slow
def test_they_are_read_from_there(fit, adata, monkeypatch, on_device):
    kept = []
    monkeypatch.setattr(
        ResidentCells, "__getitem__", lambda _, __: kept.append(1) or pytest.fail("read")
    )
    with pytest.raises(pytest.fail.Exception):
        fit("SCMEDAL_FE", adata)
    assert kept


@pytest.mark.parametrize("batch_size", [239, 60])  # one cell is left over; none is
def test_the_last_minibatch_is_dropped_as_there(fit, adata, request, batch_size):
    split = {"external_indexing": [np.arange(240), [], []]}
    options = {"datasplitter_kwargs": split, "batch_size": batch_size, "early_stopping": False}
    usual = fit("SCMEDAL_FE", adata.copy(), **options)
    request.getfixturevalue("on_device")
    resident = fit("SCMEDAL_FE", adata, **options)
    for name in ("global_step", "num_training_batches"):
        assert getattr(resident.trainer, name) == getattr(usual.trainer, name) > 0
    assert resident.history["train_loss"].equals(usual.history["train_loss"])


class TestMemory:
    @pytest.fixture
    def values(self, monkeypatch, on_device):
        """References to the values that were kept, which do not keep them."""
        made, init = [], SparseRows.__init__

        def watched(rows, x, device):
            init(rows, x, device)
            made.append(weakref.ref(rows.value))

        monkeypatch.setattr(SparseRows, "__init__", watched)
        return made

    def test_is_given_back_after_a_training(self, fit, adata, values):
        model = fit("SCMEDAL_FE", adata)
        assert len(values) == 1
        assert model.trainer is not None
        assert values[0]() is None

    def test_is_given_back_after_an_interruption(self, fit, adata, values):
        def interrupt(trainer, *_):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

        callback = LambdaCallback(on_train_epoch_start=interrupt)
        with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
            fit("SCMEDAL_FE", adata, callbacks=[callback])
        assert len(values) == 1
        assert values[0]() is None


class TestRows:
    x = sparse.random(50, 30, density=0.2, format="csr", random_state=0, dtype=np.float32)

    def test_are_those_of_the_matrix(self):
        rows = torch.tensor([7, 3, 3, 49])
        assert np.array_equal(SparseRows(self.x, CPU)[rows], self.x[rows.numpy()].toarray())

    def test_values_of_the_same_place_are_summed(self):
        x = sparse.csr_matrix((np.ones(3), ([0, 0, 1], [2, 2, 0])), (2, 3))
        twice = sparse.csr_matrix((x.data.repeat(2), x.indices.repeat(2), 2 * x.indptr), x.shape)
        before = twice.data.copy()
        assert np.array_equal(SparseRows(twice, CPU)[torch.arange(2)], 2 * x.toarray())
        assert np.array_equal(twice.data, before)

    def test_without_values(self):
        x = sparse.csr_matrix((4, 3), dtype=np.float32)
        assert np.array_equal(SparseRows(x, CPU)[torch.tensor([1, 2])], np.zeros((2, 3)))


class TestRoom:
    """Cells move to a GPU only if they are in memory and take at most a third of what is free."""

    @pytest.fixture
    def room(self, monkeypatch):
        """Give a function that says whether cells fit where so many bytes are free."""

        def room(model, free, held=0):
            for name, value in (("reserved", held), ("allocated", 0)):
                monkeypatch.setattr(torch.cuda, f"memory_{name}", lambda _, value=value: value)
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
            return ResidentCells.fit(model.adata_manager, torch.device("cuda"))

        return room

    def test_a_third_of_what_is_free(self, build, adata, room):
        # Four bytes for a value and four for its column; four for each cell's batch and label.
        size = 8 * adata.X.nnz + 2 * 4 * adata.n_obs
        model = build("SCMEDAL_FE", adata)
        assert not room(model, int(3.2 * size))
        assert room(model, int(3.4 * size))
        # What PyTorch holds without need is free.
        assert room(model, int(2.4 * size), held=size)

    def test_not_of_files_and_of_what_is_to_be_computed(self, build, adata, room, tmp_path):
        adata.write_h5ad(tmp_path / "cells.h5ad")
        for cells in (ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"), adata.copy()):
            model = build("SCMEDAL_FE", cells)
            if not cells.isbacked:
                model.adata.X = da.from_array(cells.X.toarray())
            assert not room(model, 10**12)

    @pytest.mark.parametrize(("device", "n_processes"), [("cpu", 1), ("cuda", 2)])
    def test_not_on_a_processor_or_in_parts(self, build, adata, monkeypatch, device, n_processes):
        monkeypatch.setattr(_splits, "n_processes", lambda: n_processes)
        monkeypatch.setattr(ResidentCells, "fit", lambda *_: True)
        splitter = MedalDataSplitter(build("SCMEDAL_FE", adata).adata_manager, batch_size=64)
        strategy = SimpleNamespace(root_device=torch.device(device))
        splitter.trainer = SimpleNamespace(strategy=strategy)
        assert splitter._device_for_cells() is None
        monkeypatch.setattr(_splits, "n_processes", lambda: 1)
        strategy.root_device = torch.device("cuda")
        assert splitter._device_for_cells() == strategy.root_device
