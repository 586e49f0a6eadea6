"""Names of other packages that are private there; tested with the oldest and newest versions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch.utilities import rank_zero_info
from scvi.data._constants import _SCVI_UUID_KEY
from scvi.data._utils import _assign_adata_uuid, _check_if_view
from scvi.model._utils import parse_device_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anndata import AnnData
    from mudata import MuData
    from scvi.data import AnnDataManager
    from scvi.dataloaders import AnnbatchDataModule
    from scvi.model.base import BaseModelClass
    from scvi.train import TrainingPlan

__all__ = [
    "adam_of",
    "copy_if_view",
    "device_of",
    "forget_cells",
    "forget_registration",
    "give_sizes",
    "given_settings",
    "keep_codes",
    "latest_manager",
    "manager_of",
    "minibatches_of",
    "obs_on_disk",
    "register_with",
    "registered_manager",
    "renew_identifier",
    "replace_content",
    "source_registry",
    "times_changed",
    "training_loader_in_order",
    "without_trace",
]


def give_sizes(fitted: Any, sizes: np.ndarray) -> None:
    """Let a data set of PyDESeq2 take these sizes of samples, and not those of its own genes."""

    def take(**_: Any) -> None:
        factors = sizes / np.exp(np.log(sizes).mean())
        fitted.obs["size_factors"] = factors
        fitted.layers["normed_counts"] = fitted.X / factors[:, None]
        fitted.var["_normed_means"] = fitted.layers["normed_counts"].mean(0)

    fitted.fit_size_factors = take


def given_settings(config: Any) -> dict[str, Any]:
    """Settings of a mapping, or those of a config of scvi-tools that are not its defaults.

    A config holds a value for everything, and does not say which of them its user chose: a note
    says which are used.
    """
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    defaults = type(config)().to_kwargs()
    given = config.to_kwargs()
    used = {k: v for k, v in given.items() if k not in defaults or v != defaults[k]}
    rank_zero_info(
        f"Of this {type(config).__name__} the training uses "
        f"{', '.join(f'{k}={v!r}' for k, v in used.items()) or 'nothing'}. All else is at its "
        "default there, and the preset decides. To use one of these defaults, pass it as an "
        "argument, or in a mapping."
    )
    return used


def adam_of(plan: TrainingPlan, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Adam with a training plan's settings, fused where parameters and device allow it."""
    return plan._optimizer_creator_fn(torch.optim.Adam)(groups)


def copy_if_view(adata: AnnData | MuData, copy: bool) -> None:
    """Turn a view into data of its own, or refuse it."""
    _check_if_view(adata, copy_if_view=copy)


def replace_content(adata: AnnData, content: AnnData) -> None:
    """Turn an AnnData, also a view, into another one in place."""
    adata._init_as_actual(content)


def times_changed(tensor: torch.Tensor) -> int:
    """Count of the changes of a tensor in place."""
    return tensor._version


def renew_identifier(adata: AnnData | MuData) -> None:
    """Give data an identifier of their own, by which registrations find them."""
    _assign_adata_uuid(adata, overwrite=True)


def manager_of(model: BaseModelClass) -> AnnDataManager | None:
    """Registration of a model's own cells, whose codes may be overwritten by another."""
    return model._adata_manager


def source_registry(manager: AnnDataManager) -> dict[str, Any] | None:
    """Registry that a registration follows, if there is one."""
    return manager._source_registry


def keep_codes(manager: AnnDataManager) -> None:
    """Make a registration write these codes again when another has overwritten them."""
    manager._source_registry = deepcopy(manager.registry)


def registered_manager(model: BaseModelClass, adata: AnnData | MuData) -> AnnDataManager | None:
    """Registration with a model of the data that have this identifier, if there is one."""
    managers: dict[Any, AnnDataManager] = type(model)._per_instance_manager_store.get(model.id, {})
    return managers.get(adata.uns.get(_SCVI_UUID_KEY))


def latest_manager(model_class: type[BaseModelClass], adata: AnnData | MuData) -> AnnDataManager:
    """Last registration of these cells by a model's ``setup_anndata`` or ``setup_mudata``."""
    return model_class._get_most_recent_anndata_manager(adata, required=True)


def register_with(model: BaseModelClass, manager: AnnDataManager) -> None:
    """Make a model find cells again that are registered elsewhere."""
    model._register_manager_for_instance(manager)


def minibatches_of(
    model: BaseModelClass, cells: np.ndarray, adata: AnnData | None = None, **kwargs: Any
) -> Iterable[dict[str, torch.Tensor]]:
    """Minibatches of some cells, in their order: of a model's own, or others registered with it.

    ``kwargs`` are those of torch's loader.
    """
    adata = model.adata if adata is None else adata
    return model._make_data_loader(adata=adata, indices=cells, **kwargs)


def forget_registration(model: BaseModelClass, manager: AnnDataManager) -> None:
    """Let go of cells that were registered with a model, which holds them otherwise."""
    type(model)._per_instance_manager_store.get(model.id, {}).pop(manager.adata_uuid, None)


def forget_cells(model: BaseModelClass) -> None:
    """Let go of all cells of a model that is not needed any more."""
    for manager in type(model)._per_instance_manager_store.pop(model.id, {}).values():
        type(model)._setup_adata_manager_store.pop(manager.adata_uuid, None)


@contextmanager
def without_trace(model_class: type[BaseModelClass], adata: AnnData | MuData) -> Iterator[None]:
    """Context in which cells are set up, but not for models that the user makes later.

    Their class would keep them until the end of the process, in place of the user's own setup.
    """
    managers: dict[Any, AnnDataManager] = model_class._setup_adata_manager_store
    before = managers.get(adata.uns.get(_SCVI_UUID_KEY))
    try:
        yield
    finally:
        identifier = adata.uns.get(_SCVI_UUID_KEY)
        managers.pop(identifier, None)
        if before is not None:
            managers[identifier] = before


def obs_on_disk(cells: AnnbatchDataModule) -> pd.DataFrame:
    """Columns of ``obs`` by which cells on disk were registered, of all of them."""
    return pd.concat(cells.dataset._obs, ignore_index=True).rename(index=str)


def training_loader_in_order(cells: AnnbatchDataModule) -> Iterable:
    """Loader of the training cells on disk, which ``train_dataloader()`` gives shuffled."""
    return cells._loader_with_mask(cells._train_mask, shuffle=False)


def device_of(accelerator: str, device: int | str) -> torch.device:
    """Single device that scvi-tools means by its arguments."""
    return parse_device_args(
        accelerator, device, return_device="torch", validate_single_device=True
    )[2]
