"""Statistics of the training cells, gathered once before training."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.dataloaders import AnnDataLoader, DataSplitter

from scmedal_tools.module import ExpressionStatistics, as_levels, levels_of

from ._loaded_minibatches import loaded_minibatches
from ._splits import MedalDataSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lightning import LightningDataModule
    from torch import Tensor

CELLS_PER_CHUNK = 1024


def training_statistics(
    datamodule: LightningDataModule, n_levels: Sequence[int]
) -> ExpressionStatistics:
    """Read the training cells once, minibatch by minibatch, so that sparse data stay sparse."""
    if isinstance(datamodule, DataSplitter):
        return _accumulate(_training_minibatches(datamodule), n_levels)
    return _accumulate(loaded_minibatches(datamodule, datamodule.train_dataloader()), n_levels)


def _training_minibatches(splitter: DataSplitter) -> Iterable[dict[str, Tensor]]:
    """All training cells, also where a process trains on its share of them."""
    loader = AnnDataLoader(
        splitter.adata_manager,
        indices=np.sort(splitter.train_idx),
        shuffle=False,
        batch_size=CELLS_PER_CHUNK,
    )
    return splitter.on_device(loader) if isinstance(splitter, MedalDataSplitter) else loader


def _accumulate(
    minibatches: Iterable[dict[str, Tensor]], n_levels: Sequence[int]
) -> ExpressionStatistics:
    total = squares = torch.zeros((), dtype=torch.double)
    low, high, origin = np.inf, -np.inf, None
    cells = [np.zeros(n, dtype=int) for n in n_levels]
    for tensors in minibatches:
        x = tensors[REGISTRY_KEYS.X_KEY]
        # Sums have the order of memory, in which columns of a CSC matrix come first.
        x = (x.contiguous() if x.layout == torch.strided else x.to_dense()).double()
        # Sums about the first chunk's mean keep the variance exact for large means.
        origin = x.mean(0) if origin is None else origin
        total = total + (x - origin).sum(0)
        squares = squares + (x - origin).square().sum(0)
        low, high = min(low, x.min().item()), max(high, x.max().item())
        levels = as_levels(levels_of(tensors), len(cells)).cpu().numpy()
        for counted, level in zip(cells, levels.T, strict=True):
            counted += np.bincount(level, minlength=len(counted))
    n = cells[0].sum()
    offset = total / n
    return ExpressionStatistics(
        mean=(origin + offset).cpu().numpy(),
        variance=(squares / n - offset.square()).clamp_min(0).cpu().numpy(),
        minimum=low,
        maximum=high,
        cells_per_level=cells,
    )


def check_statistics(statistics: ExpressionStatistics, batch_names: Iterable[str]) -> None:
    """Refuse or report training cells from which a network cannot learn.

    Raises
    ------
    ValueError
        If no gene varies over the training cells.

    Warns
    -----
    UserWarning
        If some genes do not vary, or some batches have no training cells.
    """
    constant = statistics.variance == 0
    if constant.all():
        raise ValueError(
            "No gene varies over the training cells, so there is nothing to learn. Check that "
            "`adata.X` (or `layer`) holds log-normalised expression."
        )
    if constant.any():
        warnings.warn(
            f"{constant.sum():,} of {constant.size:,} genes do not vary over the training cells "
            "and nothing is learned about them. Remove them beforehand with "
            "`sc.pp.filter_genes(adata, min_cells=3)`.",
            stacklevel=2,
        )
    per_batch = zip(batch_names, statistics.cells_per_batch, strict=True)
    names = [name for name, n_cells in per_batch if not n_cells]
    if names:
        warnings.warn(
            f"{len(names)} of {statistics.cells_per_batch.size} batches have no training cells: "
            f"{', '.join(map(str, names[:5]))}{', ...' if len(names) > 5 else ''}. No effects "
            "of theirs are learned; do not interpret them. To train on them, split within "
            "batches: `datasplitter_kwargs={'external_indexing': "
            "scmedal_tools.train.stratified_split(adata.obs, [batch_key])}`.",
            stacklevel=2,
        )
