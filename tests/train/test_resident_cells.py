"""Cells on the device: the same minibatches as from the loader of scvi-tools."""

import numpy as np
import pytest
import torch
from scipy import sparse

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


def test_memory_is_given_back(fit, adata, monkeypatch, on_device):
    released = []
    monkeypatch.setattr(ResidentCells, "release", lambda cells: released.append(cells))
    fit("SCMEDAL_FE", adata)
    assert len(released) == 1


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
    """Cells move to a GPU only if they are in memory and take at most half of what is free."""

    @pytest.fixture
    def manager(self, build, adata):
        return build("SCMEDAL_FE", adata).adata_manager

    @staticmethod
    def size(adata):
        # Four bytes for a value and four for its column; four for each cell's batch and label.
        return 8 * adata.X.nnz + 2 * 4 * adata.n_obs

    @pytest.mark.parametrize(("share", "fit"), [(1.9, False), (2.1, True)])
    def test_half_of_what_is_free(self, manager, adata, monkeypatch, share, fit):
        free = int(share * self.size(adata))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
        assert ResidentCells.fit(manager, torch.device("cuda")) == fit

    def test_not_on_a_processor(self, manager):
        splitter = MedalDataSplitter(manager, batch_size=64)
        splitter.setup()
        assert splitter._device_for_cells() is None
