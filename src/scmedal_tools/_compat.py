"""Names of scvi-tools that are private there; tested with the oldest and newest versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scvi.data._constants import _SCVI_UUID_KEY
from scvi.data._utils import _assign_adata_uuid, _check_if_view
from scvi.model._utils import parse_device_args

if TYPE_CHECKING:
    import torch
    from anndata import AnnData
    from mudata import MuData
    from scvi.data import AnnDataManager
    from scvi.model.base import BaseModelClass

__all__ = [
    "copy_if_view",
    "device_of",
    "given_settings",
    "registered_manager",
    "renew_identifier",
]


def given_settings(config: Any) -> dict[str, Any]:
    """Settings of a mapping, or those of a config of scvi-tools that are not its defaults.

    A config holds a value for everything, and does not say which of them its user chose.
    """
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    defaults = type(config)().to_kwargs()
    given = config.to_kwargs()
    return {k: v for k, v in given.items() if k not in defaults or v != defaults[k]}


def copy_if_view(adata: AnnData | MuData, copy: bool) -> None:
    """Turn a view into data of its own, or refuse it."""
    _check_if_view(adata, copy_if_view=copy)


def renew_identifier(adata: AnnData | MuData) -> None:
    """Give data an identifier of their own, by which registrations find them."""
    _assign_adata_uuid(adata, overwrite=True)


def registered_manager(model: BaseModelClass, adata: AnnData | MuData) -> AnnDataManager | None:
    """Registration with a model of the data that have this identifier, if there is one."""
    managers: dict[Any, AnnDataManager] = type(model)._per_instance_manager_store.get(model.id, {})
    return managers.get(adata.uns.get(_SCVI_UUID_KEY))


def device_of(accelerator: str, device: int | str) -> torch.device:
    """Single device that scvi-tools means by its arguments."""
    return parse_device_args(
        accelerator, device, return_device="torch", validate_single_device=True
    )[2]
