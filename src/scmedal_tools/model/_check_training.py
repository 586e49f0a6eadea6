"""What is refused before a training starts."""

from __future__ import annotations

import os
from inspect import signature
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from scvi.dataloaders import AnnDataLoader, DataSplitter
from torch.utils.data import DataLoader

from scmedal_tools._data import SHARE, check_argument, check_settings_by_name, number, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TRAIN_SIZE = 0.9
OF_SPLITTER = {
    name
    for takes in (DataSplitter, AnnDataLoader, DataLoader)
    for name in signature(takes).parameters
} - {"adata_manager", "dataset", "indices", "kwargs"}
"""What ``datasplitter_kwargs`` may name."""
SHARE_TRAINED = number(lambda x: 0 < x <= 1, "has to be a share of the cells: above 0, at most 1")


def check_training(
    settings: Mapping[str, Any],
    train_size: float | None,
    validation_size: float | None,
    datasplitter_kwargs: dict | None,
) -> None:
    """Refuse arguments of ``train`` that would fail later, or be taken for others."""
    for name in ("max_epochs", "batch_size"):
        check_argument(name, settings[name], whole())
    check_argument("train_size", train_size, SHARE_TRAINED, or_none=True)
    check_argument("validation_size", validation_size, SHARE, or_none=True)
    check_settings_by_name("datasplitter_kwargs", datasplitter_kwargs or {}, OF_SPLITTER)
    _check_devices(settings["accelerator"], settings["devices"])


def _check_devices(accelerator: Any, devices: Any) -> None:
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    n_cores, asked = os.cpu_count() or 1, str(devices)
    if on_cpu and asked.isdecimal() and int(asked) > n_cores:
        raise ValueError(
            f"devices={devices!r} would start as many processes on a CPU, which has {n_cores} "
            "core(s). Pass devices=1: one process uses all of them."
        )


def check_validation_cells(
    n_cells: int,
    train_size: float | None,
    validation_size: float | None,
    datasplitter_kwargs: dict | None,
) -> None:
    """Refuse early stopping without validation cells."""
    external = (datasplitter_kwargs or {}).get("external_indexing")
    if external is not None:
        none = len(external) < 2 or len(external[1]) == 0
    else:
        # As scvi-tools rounds: of 9 cells a tenth is none.
        n_train = ceil(n_cells * (train_size or DEFAULT_TRAIN_SIZE))
        none = n_cells == n_train if validation_size is None else n_cells * validation_size < 1
    if none:
        raise ValueError(
            "Early stopping needs validation cells, and there are none: lower `train_size`, or "
            "pass `early_stopping=False` to train for all epochs and keep the last weights."
        )
