"""Which of the registered cells a model was trained on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import numpy as np
    import pandas as pd


class TrainingCellsMixin(BaseModelClass):
    """Positions of training, validation and test cells, ``None`` among other cells."""

    training_cells_: str | None = None
    """Digest of the names of the cells that were registered in training."""
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

    def _training_cells(self) -> np.ndarray:
        """Positions of the training cells, for what cannot be found without them."""
        if self.adata is not None and self.train_indices is not None:
            return self.train_indices
        name = type(self).__name__
        if self.train_indices_ is None:
            raise ValueError(
                "This is found from training cells, and the model was trained with a data module "
                f"of your own: train a {name} on registered cells."
            )
        held = "was loaded without data" if self.adata is None else "holds other cells"
        raise ValueError(
            f"This is found from the cells that the model was trained on, and it {held}. Load it "
            f"with its training cells:\n    model = {name}.load(folder, adata)"
        )

    def _remember_training_cells(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        """Take them over before the first step, so that a checkpoint of the training has them."""
        datamodule = getattr(trainer, "datamodule", None)
        for part, of_splitter in (("train", "train"), ("validation", "val"), ("test", "test")):
            cells = getattr(datamodule, f"{of_splitter}_idx", None)
            setattr(self, f"{part}_indices", cells)
        if self.adata is not None:
            self.training_cells_ = _digest(self.adata.obs_names)
            self._compared = None

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
        source = self._adata_manager._source_registry
        if source is None:
            return True
        trained = source["field_registries"][REGISTRY_KEYS.X_KEY]["summary_stats"]
        return self.adata.n_obs == trained["n_cells"]


def _digest(names: pd.Index) -> str:
    return hashlib.sha256("\0".join(map(str, names)).encode()).hexdigest()
