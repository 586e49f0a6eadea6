"""The cells that a model was trained on: which of the registered, or those of a data module."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.dataloaders import DataSplitter
from scvi.model.base import BaseModelClass

from scmedal_tools._compat import manager_of, source_registry
from scmedal_tools._data import random_cells, same_names

from ._datamodules import (
    training_minibatches,
    validation_minibatches,
    warn_of_batches_not_validated,
)
from ._inference import CELLS_PER_MINIBATCH

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import pandas as pd
    from anndata import AnnData
    from lightning import LightningDataModule
    from mudata import MuData
    from torch import Tensor

    from ._inference import Minibatches

OF_A_DATA_MODULE = "of a data module"


class TrainingCellsMixin(BaseModelClass):
    """Positions of training, validation and test cells, ``None`` among other cells."""

    training_cells_: str | None = None
    """Digest of the names of the cells that were registered in training."""
    _datamodule: LightningDataModule | None = None
    """Data module that gave the cells of the training; a saved model is without."""
    _compared: tuple[pd.Index, bool] | None = None

    @property
    def train_indices(self) -> np.ndarray | None:
        """Positions of the training cells, ``None`` if the model holds other cells."""
        return self._where_known(self.train_indices_)

    @train_indices.setter
    def train_indices(self, value: np.ndarray | None) -> None:
        self.train_indices_ = value

    @property
    def validation_indices(self) -> np.ndarray | None:
        """Positions of the validation cells, ``None`` if the model holds other cells."""
        return self._where_known(self.validation_indices_)

    @validation_indices.setter
    def validation_indices(self, value: np.ndarray | None) -> None:
        self.validation_indices_ = value

    @property
    def test_indices(self) -> np.ndarray | None:
        """Positions of the test cells, ``None`` if the model holds other cells."""
        return self._where_known(self.test_indices_)

    @test_indices.setter
    def test_indices(self, value: np.ndarray | None) -> None:
        self.test_indices_ = value

    def _where_known(self, positions: np.ndarray | None) -> np.ndarray | None:
        return positions if self.adata is None or self._has_training_cells() else None

    def _remember_training_cells(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        """Take them over before the first step, so that a checkpoint of the training has them."""
        datamodule = getattr(trainer, "datamodule", None)
        if self._divides_own_cells(datamodule):
            self._datamodule = None
        elif datamodule is not None:
            warn_of_batches_not_validated(datamodule)
        for part, of_splitter in (("train", "train"), ("validation", "val"), ("test", "test")):
            cells = getattr(datamodule, f"{of_splitter}_idx", None)
            setattr(self, f"{part}_indices", cells)
        self._compared = None
        if self._datamodule is not None:
            self.training_cells_ = OF_A_DATA_MODULE
        elif self.adata is not None:
            self.training_cells_ = _digest(self.adata.obs_names)

    def _divides_own_cells(self, datamodule: LightningDataModule | None) -> bool:
        """Whether a data module is a splitter of the model's registered cells."""
        if not isinstance(datamodule, DataSplitter):
            return False
        return datamodule.adata_manager is manager_of(self)

    def _training_minibatches(self, n_cells: int | None = None, seed: int = 0) -> Minibatches:
        """Read the training cells, or ``n_cells`` of them drawn at random, again."""
        if self._datamodule is None:
            cells = training_indices(self)
            cells = np.sort(cells) if n_cells is None else random_cells(cells, n_cells, seed)
            return self._own_minibatches(cells)
        self._check_split(self._datamodule)
        minibatches = training_minibatches(self._datamodule)
        if n_cells is None:
            return minibatches
        return _drawn(minibatches, _n_training_cells(self._datamodule), n_cells, seed)

    def _validation_minibatches(self) -> Minibatches:
        """Read the validation cells; nothing if there are none."""
        if self._datamodule is not None:
            return validation_minibatches(self._datamodule)
        cells = self.validation_indices
        return () if cells is None or not len(cells) else self._own_minibatches(np.sort(cells))

    def _check_split(self, datamodule: LightningDataModule) -> None:
        cells = getattr(datamodule, "train_idx", None)
        if cells is None or self.train_indices_ is None:
            return
        if not np.array_equal(cells, self.train_indices_):
            raise ValueError(
                "The training cells of this data module are not those of the model's training: "
                "divide them as then, by default with datamodule.set_split(train_size=0.9)."
            )

    def _has_training_cells(self) -> bool:
        # Cells that were filtered or sorted in place have a new index.
        names = self.adata.obs_names
        if self._compared is None or not self._compared[0].is_(names):
            self._compared = (names, self._compare())
        return self._compared[1]

    def _compare(self) -> bool:
        if self.training_cells_ is not None:
            return _digest(self.adata.obs_names) == self.training_cells_
        # A model saved by an earlier version knows the number of its cells.
        source = source_registry(manager_of(self))
        if source is None:
            return True
        trained = source["field_registries"][REGISTRY_KEYS.X_KEY]["summary_stats"]
        return self.adata.n_obs == trained["n_cells"]


def training_indices(model: TrainingCellsMixin) -> np.ndarray:
    """Positions of the training cells, for what cannot be found without them."""
    if model.adata is not None and model.train_indices is not None:
        return model.train_indices
    name = type(model).__name__
    if model._datamodule is not None:
        raise ValueError(
            "This needs cells that are registered, and the model was trained with a data "
            f"module: pass `adata` if it can be passed, or train a {name} on registered cells."
        )
    if model.training_cells_ == OF_A_DATA_MODULE:
        raise ValueError(
            "This needs the cells that the model was trained on, which came from a data "
            "module. Load the model with that module:\n"
            f"    model = {name}.load(folder, datamodule=datamodule)"
        )
    held = "was loaded without data" if model.adata is None else "holds other cells"
    raise ValueError(
        f"This needs the cells that the model was trained on, but the model {held}. Load it "
        f"with its training cells:\n    model = {name}.load(folder, adata)"
    )


def was_trained_on(model: TrainingCellsMixin, adata: AnnData | MuData) -> bool:
    """Whether positions of the training cells are positions in these cells."""
    if model.training_cells_ is not None:
        return _digest(adata.obs_names) == model.training_cells_
    # A model saved by an earlier version.
    return model.adata is not None and same_names(adata.obs_names, model.adata.obs_names)


def _digest(names: pd.Index) -> str:
    return hashlib.sha256("\0".join(map(str, names)).encode()).hexdigest()


def _n_training_cells(datamodule: LightningDataModule) -> int:
    known: int | None = getattr(datamodule, "n_train", None)
    if known is not None:
        return known
    return sum(len(tensors[REGISTRY_KEYS.X_KEY]) for tensors in training_minibatches(datamodule))


def _drawn(
    minibatches: Minibatches, n_obs: int, n_cells: int, seed: int
) -> list[dict[str, Tensor]]:
    """Minibatches of ``n_cells`` at random of ``n_obs`` cells, in memory."""
    chosen, start = random_cells(np.arange(n_obs), n_cells, seed), 0
    found = []
    for tensors in minibatches:
        stop = start + len(tensors[REGISTRY_KEYS.X_KEY])
        rows = chosen[(chosen >= start) & (chosen < stop)] - start
        if len(rows):
            found.append({name: values.to_dense()[rows] for name, values in tensors.items()})
        start = stop
    joined = {name: torch.cat([x[name] for x in found]) for name in found[0]}
    parts = {name: values.split(CELLS_PER_MINIBATCH) for name, values in joined.items()}
    return [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
