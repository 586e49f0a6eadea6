"""Data modules of the user's own, in place of registered cells."""

import numpy as np
import pytest
from lightning import LightningDataModule
from scvi.dataloaders import AnnDataLoader
from torch.utils.data import DataLoader, IterableDataset

from scmedal_tools.model import _datamodules, training_indices
from scmedal_tools.train import MedalDataSplitter

QUICK = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}


class Stream(IterableDataset):
    """Minibatches one after another, which does not say how many."""

    def __init__(self, minibatches):
        self.minibatches = minibatches

    def __iter__(self):
        return iter(self.minibatches)


class WithoutValidation(LightningDataModule):
    def __init__(self, model):
        super().__init__()
        self.manager = model.adata_manager

    def of(self, cells):
        return AnnDataLoader(self.manager, indices=cells, batch_size=50)

    def train_dataloader(self):
        return self.of(range(200))


class WithAStream(WithoutValidation):
    def val_dataloader(self):
        return DataLoader(Stream(self.of(range(200, 240))), batch_size=None)


class WithTwo(WithoutValidation):
    def val_dataloader(self):
        return [self.of(range(200, 220)), self.of(range(220, 240))]


@pytest.mark.parametrize("module", [WithoutValidation, WithAStream])
def test_a_model_is_finished(build, adata, module):
    model = build("SCMEDAL_RE", adata)
    model.train(datamodule=module(model), early_stopping=False, **QUICK)
    assert model.is_finished


@pytest.mark.parametrize(
    ("module", "n_cells"),
    [(WithoutValidation, 0), (WithAStream, 40), (WithTwo, 40)],
)
def test_validation_cells(build, adata, module, n_cells):
    minibatches = _datamodules.validation_minibatches(module(build("SCMEDAL_RE", adata)))
    assert sum(len(tensors["X"]) for tensors in minibatches) == n_cells


def test_early_stopping_needs_validation_cells(build, adata):
    model = build("SCMEDAL_RE", adata)
    with pytest.raises(ValueError, match=r"no val_dataloader: .*early_stopping=False"):
        model.train(datamodule=WithoutValidation(model), **QUICK)


@pytest.mark.slow
def test_a_splitter_of_the_registered_cells(build, adata):
    """Which cells were for training is remembered, as without it."""
    model = build("SCMEDAL_RE", adata)
    parts = [np.arange(200), np.arange(200, 240), np.array([], int)]
    splitter = MedalDataSplitter(model.adata_manager, external_indexing=parts, batch_size=50)
    model.train(datamodule=splitter, **QUICK)
    np.testing.assert_array_equal(model.train_indices, parts[0])
    np.testing.assert_array_equal(training_indices(model), parts[0])
    assert model.is_finished


def test_a_splitter_of_other_donors_is_refused(build, adata):
    other = adata.copy()
    other.obs["donor"] = "other " + other.obs["donor"].astype(str)
    splitter = MedalDataSplitter(build("SCMEDAL_RE", other).adata_manager, batch_size=50)
    with pytest.raises(ValueError, match="other batches than the model"):
        build("SCMEDAL_RE", adata).train(datamodule=splitter, **QUICK)
