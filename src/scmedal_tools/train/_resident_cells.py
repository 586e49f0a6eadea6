"""Cells that live on the device, so that a GPU does not wait for minibatches."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch.utils.data import BatchSampler, DataLoader, Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from scvi.data import AnnDataManager
    from scvi.dataloaders import AnnDataLoader
    from torch import Tensor

# Share of a GPU's free memory that cells may take: networks and minibatches need some too.
MOST_OF_MEMORY = 0.3


class ResidentCells(Dataset):
    """Registered cells on a device; a minibatch is gathered, and becomes dense, there.

    Parameters
    ----------
    manager
        Manager of the registered data.
    device
        Where the cells are kept.
    """

    def __init__(self, manager: AnnDataManager, device: torch.device):
        self.device = device
        self._columns = {
            key: SparseRows(data, device)
            if sparse.issparse(data)
            else torch.as_tensor(np.ascontiguousarray(data, dtype=dtype)).to(device)
            for key, (data, dtype) in _registered(manager).items()
        }

    @staticmethod
    def fit(manager: AnnDataManager, device: torch.device) -> bool:
        """Whether a GPU has room for the cells, and they are in memory."""
        columns = [data for data, _ in _registered(manager).values()]
        if not all(sparse.issparse(data) or isinstance(data, np.ndarray) for data in columns):
            return False
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch keeps for later is free as well.
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        # Four bytes for a value, four more for its column if it is one of a sparse matrix.
        size = sum(8 * data.nnz if sparse.issparse(data) else 4 * data.size for data in columns)
        return size < MOST_OF_MEMORY * free

    def release(self) -> None:
        """Give the memory back; no minibatch can be gathered any more."""
        self._columns.clear()

    def __getitem__(self, cells: Tensor) -> dict[str, Tensor]:
        return {key: column[cells] for key, column in self._columns.items()}


class SparseRows:
    """Rows of a sparse matrix on a device, given dense.

    Every row is read with room for the fullest one: shapes that did not depend on the rows would
    make a GPU wait for their sizes.
    """

    def __init__(self, x: Any, device: torch.device):
        x = sparse.csr_matrix(x)
        if not x.has_canonical_format:
            x = x.copy()
            x.sum_duplicates()
        lengths = np.diff(x.indptr)
        self.n_columns = x.shape[1]
        self.start = torch.as_tensor(x.indptr[:-1].astype(np.int64)).to(device)
        self.length = torch.as_tensor(lengths.astype(np.int64)).to(device)
        self.place = torch.arange(lengths.max(initial=0), device=device)
        self.column = torch.as_tensor(x.indices.astype(np.int32, copy=False)).to(device)
        self.value = torch.as_tensor(x.data.astype(np.float32, copy=False)).to(device)

    def __getitem__(self, rows: Tensor) -> Tensor:
        held = self.place < self.length[rows, None]
        position = torch.where(held, self.start[rows, None] + self.place, 0)
        # What a row does not hold goes to one more column, which is cut off.
        column = torch.where(held, self.column[position], self.n_columns).long()
        dense = self.value.new_zeros(len(rows), self.n_columns + 1)
        return dense.scatter_(1, column, self.value[position])[:, : self.n_columns]


def resident_loader(loader: AnnDataLoader, cells: ResidentCells) -> DataLoader:
    """Loader of the same minibatches, in the same order, from cells on a device."""
    sampler = _Positions(loader, cells.device)
    return DataLoader(cells, sampler=sampler, batch_size=None, collate_fn=_as_it_is)


class _Positions:
    """Positions of the cells of each minibatch, on the device from the start of the epoch."""

    def __init__(self, loader: AnnDataLoader, device: torch.device):
        self._batches = cast("BatchSampler", loader.sampler)
        self._cells = torch.as_tensor(loader.indices).to(device)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.as_tensor(list(self._batches.sampler)).to(self._cells.device)
        minibatches = self._cells[order].split(self._batches.batch_size)
        yield from minibatches[: len(self)]


def _as_it_is(minibatch: Any) -> Any:
    return minibatch


def _registered(manager: AnnDataManager) -> dict[str, tuple[Any, type]]:
    """Registered data and the type that scvi-tools gives to each."""
    dataset = manager.create_torch_dataset()
    return {
        key: (data.to_numpy() if isinstance(data, pd.DataFrame) else data, dtype)
        for key, dtype in dataset.keys_and_dtypes.items()
        if (data := dataset.data[key]) is not None
    }
