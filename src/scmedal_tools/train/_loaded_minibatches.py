"""Minibatches of a data module, outside of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lightning import LightningDataModule
    from torch import Tensor


def loaded_minibatches(
    datamodule: LightningDataModule, dataloader: Iterable
) -> Iterator[dict[str, Tensor]]:
    """Give what a loader of a data module yields, as a training gets it.

    A module may turn names into codes only then, as that of scvi-tools for cells on disk does.
    """
    for batch in dataloader:
        yield datamodule.on_before_batch_transfer(batch, 0)
